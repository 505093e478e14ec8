"""Retraining from fresh weights on the retain set: exact, and the gold standard the others are held against."""

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from nablatau.methods.base import Job, Method, Need
from nablatau.recipes import train


@dataclass(frozen=True, kw_only=True)
class Retrain(Method):
    """The original's own recipe on the retain set. It has no settings: a setting would make it another model."""

    name: ClassVar[str] = "retrain"
    source: ClassVar[str] = "by definition"
    shardable: ClassVar[bool] = True
    needs: ClassVar[frozenset[Need]] = frozenset({"recipe"})

    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        assert job.recipe is not None
        return train(
            job.recipe,
            job.request.retain_set,
            job.objective,
            like=model,
            seed=job.seed,
            runtime=job.runtime,
            history=job.history,
            on_step=job.on_step,
            description="retraining",
        )
