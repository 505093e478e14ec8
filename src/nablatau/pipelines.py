"""Shadow pipelines: train, then unlearn, K times over, so that each record's own traces can be known (tier 3).

Source: U-LiRA (Hayes et al., 2403.01218). Each forgotten record, and as many unseen ones, is in each pipeline one of
three things, dealt at random: never trained on (OUT), trained on and kept (IN), or trained on and unlearned by the
method under audit (UNLEARNED). The retain set is trained on in all. The distance between a record's margins in the
pipelines that unlearned it and in those that never saw it is what the method leaves behind of that very record.

Every pipeline is scored twice, after training and after unlearning: the first scores serve LiRA on models that unlearn
nothing (the original, a reference), the second U-LiRA on the unlearned model.

Shapes: K pipelines, n records under attack: the forgotten ones first, then the unseen ones.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.data import ConcatDataset, TensorDataset

from nablatau.attacks.u_lira import ShadowState, draw_thirds
from nablatau.data import Request
from nablatau.errors import EvidenceError
from nablatau.fingerprints import Readable
from nablatau.methods import Method
from nablatau.objectives import Objective
from nablatau.recipes import Recipe
from nablatau.records import Records
from nablatau.runtime import Runtime, random_generator
from nablatau.scoring import score
from nablatau.shadows import Shadows, train_shadows

FEWEST_PIPELINES = 6
"""Two of each state a record, without which no spread is known."""
MOST_TARGETS = 2000
"""Forgotten, and unseen, records under attack."""


@dataclass(frozen=True, kw_only=True)
class PipelineScores:
    """What the shadow pipelines say of the records under attack.

    Attributes:
        states: (K, n) `ShadowState` of each record in each pipeline.
        trained: (K, n) margins (minus losses where there are none) after training.
        unlearned: (K, n) the same after unlearning.
        forget_positions: positions in the forget set of the first records.
        unseen_positions: positions in the evaluation set of the others.
        batched: whether the models were trained many at once; the reason why not, if not.
    """

    states: npt.NDArray[np.int8]
    trained: npt.NDArray[np.float64]
    unlearned: npt.NDArray[np.float64]
    forget_positions: npt.NDArray[np.int64]
    unseen_positions: npt.NDArray[np.int64]
    batched: str

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """The arrays by name, as evidence keeps them."""
        return {f"shadow_{name}": value for name, value in vars(self).items() if name != "batched"}


def run_pipelines(
    method: Method,
    request: Request,
    objective: Objective,
    *,
    recipe: Recipe,
    like: nn.Module,
    pipelines: int = 16,
    seed: int = 0,
    runtime: Runtime | None = None,
) -> PipelineScores:
    """Train K models, unlearn a third of the records under attack in each, and score them.

    Args:
        method: under audit.
        request: with the half of the holdout set that is kept for evaluation.
        objective: what a batch and a loss are.
        recipe: how the original was trained.
        like: a model of the same architecture, used where the recipe has no `build`.
        pipelines: K, at least 6.
        seed: of everything: deal, weights, order, unlearning.
        runtime: device, precision and the like.

    Raises:
        EvidenceError: no unseen records to compare with.
    """
    pool, targets, forget, unseen = _pool(request, seed)
    size = len(forget) + len(unseen)
    states = draw_thirds(pipelines, size, seed=seed)
    included = np.ones((pipelines, len(pool)), dtype=bool)
    included[:, targets] = states != ShadowState.OUT
    seeds = [seed * 10_000 + 1 + k for k in range(pipelines)]
    shadows: Shadows = train_shadows(recipe, pool, objective, included, seeds=seeds, like=like, runtime=runtime)
    attacked = pool.subset(targets)
    trained, unlearned = np.empty((pipelines, size)), np.empty((pipelines, size))
    for k, model in enumerate(shadows.models):
        forgotten = targets[states[k] == ShadowState.UNLEARNED]
        kept = np.setdiff1d(np.flatnonzero(included[k]), forgotten)
        asked = replace(request, forget_set=pool.subset(forgotten), retain_set=pool.subset(kept), goal="records")
        done = method.unlearn(model, asked, objective, seed=seeds[k], recipe=recipe, runtime=runtime)
        trained[k] = _signal(model, attacked, objective, runtime)
        unlearned[k] = _signal(done.model, attacked, objective, runtime)
    return PipelineScores(
        states=states,
        trained=trained,
        unlearned=unlearned,
        forget_positions=forget,
        unseen_positions=unseen,
        batched="many at once" if shadows.batched else shadows.reason,
    )


def _pool(
    request: Request, seed: int
) -> tuple[Records, npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """All records that pipelines may train on, the positions of those under attack, and which these are."""
    if request.evaluation_set is None or request.comparable is None or len(request.comparable) < 2:
        raise EvidenceError("Tier 3 needs unseen records to compare with, kept for evaluation, and there are too few.")
    forget = _sample(np.arange(len(request.forget_set)), seed, "forgotten")
    unseen = _sample(request.comparable, seed, "unseen")[: max(2, len(forget))]
    parts = [request.retain_set, request.forget_set.subset(forget), request.evaluation_set.subset(unseen)]
    pool = _joined(request.retain_set.dataset, request.evaluation_set.dataset, parts)
    targets = np.arange(len(request.retain_set), len(pool))
    return pool, targets, forget, unseen


def _sample(positions: npt.NDArray[np.int64], seed: int, stream: str) -> npt.NDArray[np.int64]:
    """At most `MOST_TARGETS` of the positions, at random."""
    order = torch.randperm(len(positions), generator=random_generator(seed, f"{stream} records under attack"))
    return np.sort(positions[order.numpy()[:MOST_TARGETS]])


def _joined(train: Readable, holdout: Readable, parts: list[Records]) -> Records:
    """Records of both data sets as one; tensors are joined as tensors, so that shadows can be trained at once."""
    joined: Readable
    if type(train) is type(holdout) is TensorDataset:
        joined = TensorDataset(*(torch.cat(pair) for pair in zip(train.tensors, holdout.tensors, strict=True)))
    else:
        joined = ConcatDataset([train, holdout])  # type: ignore[list-item]
    shift = [0, 0, len(train)]
    positions = np.concatenate([part.positions + by for part, by in zip(parts, shift, strict=True)])
    return Records(joined, positions, range(len(joined)))


def _signal(
    model: nn.Module, records: Records, objective: Objective, runtime: Runtime | None
) -> npt.NDArray[np.float64]:
    scores = score(model, records, objective, runtime)
    signal: npt.NDArray[np.float64] = scores["margin"] if "margin" in scores else -scores["loss"]
    return signal
