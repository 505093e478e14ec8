"""Evidence of models that never were: arrays drawn with a known effect, so that every verdict has a known truth.

A record has an ease that all models share, and each model its own noise on top: signal = 2 + 1.5 ease + noise + shift.
Retrained and unlearned models without a shift are exchangeable; what a model remembers of a split is its shift there.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.special import entr, expit

from nablatau.evidence import Evidence
from nablatau.scoring import Scores

Array = npt.NDArray[Any]
Shifts = Mapping[str, Mapping[str, float]]
CLASSES = 4
REMEMBERED: Shifts = {"original": {"retain": 1.0, "forget": 1.0}, "unlearned": {"retain": 1.0}}
"""The original knows what it was trained on; the unlearned model, like a retrained one, only what it kept."""


def eases(generator: np.random.Generator, *, tilt: float = 0.0, **sizes: int) -> dict[str, Array]:
    """Standard normal ease of the records of each split; forgotten ones drawn with odds exp(tilt · ease)."""
    found = {split: generator.normal(size=size) for split, size in sizes.items()}
    if tilt:
        pool = generator.normal(size=20 * sizes["forget"])
        odds = np.exp(tilt * pool)
        found["forget"] = generator.choice(pool, sizes["forget"], replace=False, p=odds / odds.sum())
    return found


def evidence(
    generator: np.random.Generator,
    ease: Mapping[str, Array],
    shifts: Shifts = REMEMBERED,
    *,
    kind: Literal["single-label", "regression", "loss"] = "single-label",
    noise: float = 0.7,
    uneven: bool = False,
    logits: bool = False,
    **rest: Any,
) -> Evidence:
    """Evidence of the models in `shifts`; `uneven` noise is larger on hard records (0.2 to 1.4)."""
    targets = {split: generator.integers(CLASSES, size=len(each)) for split, each in ease.items()}
    scores: dict[str, dict[str, Scores]] = {}
    for model, shift in shifts.items():
        scores[model] = {}
        for split, each in ease.items():
            spread = 0.2 + 1.2 * expit(-each) if uneven else noise
            signal = 2 + 1.5 * each + spread * generator.normal(size=len(each)) + shift.get(split, 0.0)
            make = classified if kind == "single-label" else fitted
            arrays = make(signal, targets[split])
            if kind == "loss":
                arrays = {"loss": arrays["loss"]}
            if kind == "single-label" and logits:
                arrays["logits"] = logits_of(signal, targets[split])
            scores[model][split] = Scores([f"{split} {i}" for i in range(len(each))], arrays)
    settings: dict[str, Any] = {
        "goal": "records",
        "random_draw": True,
        "comparable": np.arange(len(ease["unseen"])),
        "costs": {},
        **rest,
    }
    return Evidence(kind=kind, scores=scores, **settings)


def classified(margin: Array, target: Array) -> dict[str, Array]:
    """What a classifier with these margins says; the label's only rival is the next class."""
    right = margin > 0
    chance = expit(margin)
    return {
        "loss": np.logaddexp(0.0, -margin),
        "margin": margin,
        "entropy": entr(chance) + entr(1 - chance),
        "prediction": np.where(right, target, (target + 1) % CLASSES),
        "target": target,
        "correct": right,
    }


def logits_of(margin: Array, target: Array) -> Array:
    """Logits with these margins up to 1e-9."""
    found = np.full((len(margin), CLASSES), -20.0)
    rows = np.arange(len(margin))
    found[rows, target] = margin
    found[rows, (target + 1) % CLASSES] = 0.0
    return found.astype(np.float32)


def fitted(signal: Array, label: Array) -> dict[str, Array]:
    """What a regression with squared error exp(−signal) says."""
    loss = np.exp(-signal)
    return {"loss": loss, "margin": -loss, "prediction": label + np.sqrt(loss), "target": label.astype(np.float64)}
