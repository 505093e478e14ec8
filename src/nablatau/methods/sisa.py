"""SISA: sharded, isolated, sliced, aggregated training. Only what a forgotten record touched is trained again.

Source: Bourtoule et al. 2021, "Machine Unlearning", arXiv 1912.03817. The training set is dealt to S shards, each of
which trains a model of its own, slice by slice: on slice 1, then on slices 1 and 2, and so on to R, with a checkpoint
before each slice. A record is forgotten by taking up its shard's training from the checkpoint before its slice. This is
exact: the result equals training without the record, bit for bit.

The method wants an original of its own (`own_original`, a `SisaEnsemble`); `unlearn` then trains what was touched.
Given any other model it trains a whole ensemble on the retain set: exact as well, at the cost of training.

Settings: each stage has e = 2 e' / (R + 1) passes, as in the paper, so that all stages together see as many records as
e' passes over the shard would. The paper varies S (to 20 and more) and R; 5 and 3 are ours, for training sets of
hundreds to ten thousands, as shards must stay large enough to learn from.

Where we differ from the paper, and why:
- a record's place is a hash of its id and the seed, not a cut of a shuffled list: it does not move when others are
  removed, and no remainder is dropped. Shards and slices are therefore of nearly, not exactly, equal size;
- votes are means of predicted probabilities, which the paper has beside the majority of labels: losses and margins need
  more than a label. The ensemble's outputs are the logarithms of these means, so that any loss reads them as logits;
- the optimizer starts afresh with each stage, so that a checkpoint is the weights alone;
- a shard that is left with no record has no vote.

Shapes: S shards, B examples, C classes.
"""

import hashlib
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nablatau.errors import ObjectiveError, SettingsError
from nablatau.history import History
from nablatau.methods.base import Job, Method, Need
from nablatau.objectives import Kind, Objective
from nablatau.recipes import Recipe, check_counts, fit
from nablatau.records import Positions, Records
from nablatau.runtime import Runtime, isolated_randomness, random_generator


@dataclass(frozen=True, kw_only=True)
class Sisa(Method):
    """An ensemble over shards, of which only the touched ones are trained again. More shards: cheaper, less accurate.

    Attributes:
        shards: S, models in the ensemble.
        slices: R, stages in which each is trained.
    """

    name: ClassVar[str] = "sisa"
    source: ClassVar[str] = "Bourtoule et al. 2021, arXiv 1912.03817"
    needs: ClassVar[frozenset[Need]] = frozenset({"recipe", "outputs"})

    shards: int = 5
    slices: int = 3

    def __post_init__(self) -> None:
        check_counts(shards=self.shards, slices=self.slices)

    def own_original(
        self,
        records: Records,
        objective: Objective,
        recipe: Recipe,
        *,
        like: nn.Module,
        seed: int,
        runtime: Runtime | None = None,
    ) -> nn.Module:
        """The ensemble trained on these records.

        Args:
            records: the whole training set; their ids' `repr` decides where they go, so it must stay the same.
            objective: with outputs, of which the members' means are taken.
            recipe: how each member is trained.
            like: a model of the same architecture, used where the recipe has no `build`; its device is the ensemble's.
            seed: of the dealing and the training.
            runtime: device, precision and the like.
        """
        runtime = runtime or Runtime()
        ensemble = self._untrained(objective, recipe, like=like, seed=seed)
        trainer = _Trainer(ensemble, records, objective, recipe, runtime, runtime.device_for(like))
        for shard in range(self.shards):
            trainer.train(shard, first=0)
        return ensemble.eval()

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        assert job.recipe is not None
        request = job.request
        if isinstance(model, SisaEnsemble):
            self._check_ensemble(model, request.forget_set, request.retain_set)
            ensemble = model
            touched = ensemble.deal(request.forget_set)
        else:
            ensemble = self._untrained(job.objective, job.recipe, like=model, seed=job.seed)
            touched = [[np.zeros(1, np.int64)] for _ in range(self.shards)]
        trainer = _Trainer(
            ensemble,
            request.retain_set,
            job.objective,
            job.recipe,
            job.runtime,
            job.device,
            job.history,
            job.on_step,
        )
        for shard, slices in enumerate(touched):
            first = next((i for i, positions in enumerate(slices) if len(positions)), None)
            if first is not None:
                trainer.train(shard, first=first)
        return ensemble

    def _untrained(self, objective: Objective, recipe: Recipe, *, like: nn.Module, seed: int) -> "SisaEnsemble":
        with isolated_randomness(seed):
            members = [recipe.fresh_model(like) for _ in range(self.shards)]
        return SisaEnsemble(members, slices=self.slices, seed=seed, kind=objective.kind)

    def _check_ensemble(self, ensemble: "SisaEnsemble", forget_set: Records, retain_set: Records) -> None:
        """Refuse an ensemble that was not trained with these settings on these records."""
        if (len(ensemble.members), ensemble.slices) != (self.shards, self.slices):
            raise SettingsError(
                f"The ensemble has {len(ensemble.members)} shards of {ensemble.slices} slices, and the method "
                f"{self.shards} of {self.slices}. Pass Sisa(shards={len(ensemble.members)}, slices={ensemble.slices})."
            )
        pairs = zip(ensemble.deal(forget_set), ensemble.deal(retain_set), strict=True)
        found = [sum(map(len, ours)) + sum(map(len, theirs)) for ours, theirs in pairs]
        if found != ensemble.records_S.tolist():
            raise SettingsError(
                f"The ensemble's shards were trained on {ensemble.records_S.tolist()} records; forget and retain set "
                f"together would give them {found}, so these are not the records, or not the ids, that it was trained "
                "with. Pass the training data as it was, with the same ids."
            )


class SisaEnsemble(nn.Module):
    """One model a shard, with the weights of each before every slice but the first; its output is their mean vote.

    All of it travels in the state_dict: members, checkpoints, the seed that dealt the records, and their numbers.

    Args:
        members: S models of one architecture.
        slices: R.
        seed: of dealing and training.
        kind: of the objective; says how votes are averaged.
    """

    dealing_seed: Tensor
    records_S: Tensor

    def __init__(self, members: Sequence[nn.Module], *, slices: int, seed: int, kind: Kind) -> None:
        super().__init__()
        self.kind, self.slices = kind, slices
        self.members = nn.ModuleList(members)
        self.checkpoints = nn.ModuleList(
            nn.ModuleList(_Checkpoint(member) for _ in range(slices - 1)) for member in members
        )
        self.register_buffer("dealing_seed", torch.tensor([seed]))
        self.register_buffer("records_S", torch.zeros(len(members), dtype=torch.int64))

    @property
    def seed(self) -> int:
        """Of dealing and training; a buffer, so that it comes back with the weights."""
        return int(self.dealing_seed[0])

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """The mean vote of the shards that hold records, as outputs of the members' own form."""
        trained = [member for member, count in zip(self.members, self.records_S.tolist(), strict=True) if count]
        votes = [_tensor_of(member(*inputs, **named)) for member in trained or self.members]
        return MEANS[self.kind](torch.stack(votes))

    def deal(self, records: Records) -> list[list[Positions]]:
        """For each shard and slice the positions in `records` of the records that go there, in their order."""
        ids = records.ids_at(range(len(records)))
        shards = len(self.members)
        places = np.array([place(each, seed=self.seed, shards=shards, slices=self.slices) for each in ids])
        cells = places.reshape(-1, 2)
        return [
            [np.flatnonzero((cells == (shard, part)).all(axis=1)) for part in range(self.slices)]
            for shard in range(shards)
        ]


class _Checkpoint(nn.Module):
    """The state of a module as buffers: saved with the rest, never trained."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        for name, tensor in module.state_dict().items():
            self.register_buffer(name.replace(".", "/"), tensor.detach().clone())

    def store(self, module: nn.Module) -> None:
        self.load_state_dict({name.replace(".", "/"): tensor for name, tensor in module.state_dict().items()})

    def restore(self, module: nn.Module) -> None:
        module.load_state_dict({name.replace("/", "."): tensor for name, tensor in self.state_dict().items()})


@dataclass(frozen=True)
class _Trainer:
    """Trains shards of an ensemble on some records; what it does to a shard depends on that shard's records alone."""

    ensemble: SisaEnsemble
    records: Records
    objective: Objective
    recipe: Recipe
    runtime: Runtime
    device: torch.device
    history: History | None = None
    on_step: Callable[[dict[str, float]], None] | None = None

    def train(self, shard: int, *, first: int) -> None:
        """Train a shard from the state before slice `first` (counted from 0) to the end."""
        ensemble = self.ensemble.to(self.device)
        member, checkpoints = ensemble.members[shard], ensemble.checkpoints[shard]
        assert isinstance(checkpoints, nn.ModuleList)
        slices = ensemble.deal(self.records)[shard]
        if first == 0:
            self._draw_weights(member, shard)
        else:
            checkpoints[first - 1].restore(member)  # type: ignore[operator]
        for stage in range(first, ensemble.slices):
            if stage:
                checkpoints[stage - 1].store(member)  # type: ignore[operator]
            part = self.records.subset(np.sort(np.concatenate(slices[: stage + 1])))
            if len(part):
                self._train_stage(member, part, f"shard {shard} slice {stage}")
        ensemble.records_S[shard] = sum(map(len, slices))

    def _draw_weights(self, member: nn.Module, shard: int) -> None:
        seed = random_generator(self.ensemble.seed, f"shard {shard}").initial_seed()
        with isolated_randomness(seed):
            torch.manual_seed(seed)  # alike in every process
            member.load_state_dict(self.recipe.fresh_model(member).state_dict())

    def _train_stage(self, member: nn.Module, part: Records, name: str) -> None:
        seed = random_generator(self.ensemble.seed, name).initial_seed()
        alone = [module for module in member.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        with isolated_randomness(seed):
            fit(
                member,
                self.recipe,
                part,
                self.objective,
                seed=seed,
                runtime=self.runtime,
                device=self.device,
                epochs=epochs_a_slice(self.recipe.epochs, self.ensemble.slices),
                still=alone if len(part) == 1 else (),  # one record has no spread to normalise by
                history=self.history,
                on_step=self.on_step,
                description=f"training {name}",
            )


def place(record_id: Hashable, *, seed: int, shards: int, slices: int) -> tuple[int, int]:
    """Shard and slice of a record: a hash of seed and id, whatever other records there are.

    Args:
        record_id: of the record; its `repr` is hashed.
        seed: of the ensemble.
        shards, slices: how many.
    """
    digest = hashlib.blake2b(f"{seed}:{record_id!r}".encode(), digest_size=16).digest()
    number = int.from_bytes(digest, "big")
    return number % shards, number // shards % slices


def epochs_a_slice(epochs: int, slices: int) -> int:
    """e = 2 e' / (R + 1) passes in each stage, at least 1.

    Args:
        epochs: e', passes of ordinary training.
        slices: R.
    """
    return max(1, round(2 * epochs / (slices + 1)))


def _tensor_of(output: Any) -> Tensor:
    logits = output if isinstance(output, Tensor) else getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise ObjectiveError(
        f"A member of the ensemble returned a {type(output).__qualname__} without .logits, so there is no mean vote. "
        "Let the model return a tensor with one row an example."
    )


# ---------------------------------------------------------------------- mean votes


def mean_probability(logits_SBC: Tensor) -> Tensor:
    """log of the mean over shards of the softmax: (B, C), of which the softmax is that mean; of tokens (B, T, V)."""
    return functional.log_softmax(logits_SBC, dim=-1).logsumexp(dim=0) - math.log(len(logits_SBC))


def mean_label_probability(logits_SBL: Tensor) -> Tensor:
    """Log odds of the mean over shards of the sigmoid: (B, L), of which the sigmoid is that mean."""
    return functional.logsigmoid(logits_SBL).logsumexp(dim=0) - functional.logsigmoid(-logits_SBL).logsumexp(dim=0)


def mean_prediction(predictions_SBD: Tensor) -> Tensor:
    """The mean over shards."""
    return predictions_SBD.mean(dim=0)


MEANS: dict[str, Callable[[Tensor], Tensor]] = {
    "single-label": mean_probability,
    "multi-label": mean_label_probability,
    "regression": mean_prediction,
    "causal-lm": mean_probability,
    "token-classification": mean_probability,
}
"""From the members' outputs to the ensemble's, by kind of objective."""
