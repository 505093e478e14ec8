"""A short run of every method that reads batches, in double precision, so that ways of computing can be compared."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from nablatau import Objective, Recipe, Runtime, TrainingData
from nablatau.methods import METHODS
from nablatau.recipes import train
from nablatau.records import Records
from nablatau.scoring import score
from small import random_set, random_texts, small_convolutional, small_network, small_transformer

SETTINGS: dict[str, dict[str, Any]] = {
    "nabla_tau": {"batch_size": 5, "least_records": 100},
    "nabla_tau_paper": {"batch_size": 5, "alpha": 0.9, "learning_rate": 1e-2},
    "finetune": {"batch_size": 5},
    "neg_grad": {"batch_size": 5},
    "neg_grad_plus": {"retain_batch_size": 5, "forget_batch_size": 3, "epochs": 2},
    "scrub": {"retain_batch_size": 5, "forget_batch_size": 3},
    "scrub_r": {"retain_batch_size": 5, "forget_batch_size": 3},
    "bad_teacher": {"batch_size": 5},
    "amnesiac": {"epochs": 2, "batch_size": 5},
    "salun": {"epochs": 2, "batch_size": 5},
    "l1_sparse": {"epochs": 2, "batch_size": 5},
    "boundary_shrink": {"epochs": 2, "batch_size": 7, "learning_rate": 1e-2},
    "amun": {"epochs": 2, "batch_size": 5},
    "ssd": {},
    "fisher": {},
    "influence": {"batch_size": 5},
    "cf_k": {"layers": 1, "epochs": 2, "batch_size": 5},
    "eu_k": {"layers": 1},
    "msg": {"epochs": 2, "batch_size": 5},
    "ct": {"epochs": 2, "batch_size": 5},
    "unsir": {"noise_count": 5, "noise_steps": 3, "batch_size": 5},
    "sisa": {"shards": 2, "slices": 2},
    "grad_ascent": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "grad_diff": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "sim_npo": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "task_vector": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "npo": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "rmu": {"steps": 3, "batch_size": 5, "learning_rate": 1e-2},
    "idk_dpo": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "undial": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2, "retain_weight": 1.0},
}
ON_TEXTS = ("npo", "rmu", "idk_dpo", "undial")
RECORDED = {"loss", "retain_loss", "forget_loss", "forget_term", "tau", "heat", "shortfall"}


def run_all(
    runtime: Runtime, names: Iterable[str] = SETTINGS, *, of_texts: Iterable[str] = ON_TEXTS, trained: bool = True
) -> dict[str, Any]:
    """Weights, losses and counts of samples of each method's run, and of a training.

    Args:
        runtime: of the runs.
        names: of methods.
        of_texts: those that run on a transformer.
        trained: also train a network and score it.
    """
    wide, found = torch.float64, dict[str, Tensor]()
    train_set, unseen = random_set(61, 1, wide), random_set(31, 2, wide)
    requests = {"unsir": TrainingData(train_set, unseen).forget_class(1)}
    requests |= dict.fromkeys(
        of_texts, TrainingData(random_texts(31, 1), random_texts(9, 2)).forget_fraction(0.4, seed=1)
    )
    starts = {"ct": small_convolutional(seed=4, dtype=wide)}
    starts |= dict.fromkeys(of_texts, small_transformer(seed=4, dtype=wide))
    request, objective = TrainingData(train_set, unseen).forget_fraction(0.25, seed=1), Objective.classification()
    recipe = Recipe(epochs=2, learning_rate=0.1, batch_size=5, build=lambda: small_network(seed=4, dtype=wide))
    for name in names:
        method = METHODS[name](**SETTINGS[name])
        done = method.unlearn(
            starts.get(name, small_network(seed=4, dtype=wide)),
            requests.get(name, request),
            Objective.causal_lm() if name in of_texts else objective,
            seed=2,
            recipe=recipe if "recipe" in method.needs else None,
            runtime=runtime,
        )
        found[name] = parameters_to_vector(done.model.parameters()).detach()
        for column in RECORDED & done.history.columns.keys():
            found[f"{name} {column}"] = torch.tensor(done.history.columns[column])
        found[f"{name} samples"] = torch.tensor([done.history.trained_samples, done.history.scored_samples])
    if not trained:
        return found
    fitted = train(recipe, Records.all_of(train_set), objective, seed=0, runtime=runtime)
    found["train"] = parameters_to_vector(fitted.parameters()).detach()
    found["scores"] = torch.tensor(
        score(fitted, request.retain_set, objective, Runtime(evaluation_batch_size=7))["loss"]
    )
    return found


def farthest(one: dict[str, Tensor], other: dict[str, Tensor]) -> tuple[float, str]:
    """The largest difference between the numbers of two runs, and where it is."""
    assert one.keys() == other.keys()
    return max(((one[name].double() - other[name].double()).abs().max().item(), name) for name in one)
