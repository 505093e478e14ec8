"""Files of a folder that are no method, attack or task of their own: what its methods, attacks or tasks share."""

SHARED = {
    "methods": {
        "__init__",
        "base",
        "adversarial",
        "distillation",
        "forget_passes",
        "heat",
        "importance",
        "layers",
        "low_rank",
        "precautions",
        "relabelling",
        "schedule",
        "steps",
    },
    "attacks": {"__init__", "checks", "shadow_moments", "metric"},
    "tasks": {"__init__", "models", "sources", "splits", "augmentations"},
}
