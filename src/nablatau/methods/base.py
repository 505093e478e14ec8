"""What every method is: settings that are frozen data, and one call from request to unlearned model.

`Method.unlearn` does for all methods what must never differ: it checks what the method needs before any
work, works on a copy, isolates randomness, and hands back a model in eval mode with its flags as they were.
A method itself is `_run`: it changes the copy (or returns another model) and fills the history.
"""

import dataclasses
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from nablatau.data import Request
from nablatau.errors import ObjectiveError, RequestError, SettingsError
from nablatau.history import History
from nablatau.loading import Loader
from nablatau.modes import Mode
from nablatau.objectives import Objective
from nablatau.recipes import Recipe
from nablatau.records import Records
from nablatau.runtime import Runtime, copied, device_of, isolated_randomness, move, random_generator
from nablatau.sharding import is_sharded, put_together, shard
from nablatau.training import trainable_parameters

Need = Literal["recipe", "outputs", "classes", "class request", "convolutions", "tokens", "alternatives"]


@dataclass(frozen=True, kw_only=True)
class Tunable:
    """Where a search looks for a setting: between two bounds, evenly, or evenly in its logarithm.

    Attributes:
        low, high: bounds; two whole numbers for a setting that counts.
        log: evenly in the logarithm.
    """

    low: float
    high: float
    log: bool = True


@dataclass(frozen=True, kw_only=True)
class Job:
    """All that a method is given beside the model.

    Attributes:
        request: forget, retain and holdout set; never the half kept for evaluation, never a test set.
        objective: what a batch and a loss are.
        recipe: how the original was trained, where it is known.
        seed: of this run.
        runtime: device, precision and the like.
        device: where the model lies.
        history: to be filled.
        on_step: called with each row of the history.
    """

    request: Request
    objective: Objective
    recipe: Recipe | None
    seed: int
    runtime: Runtime
    device: torch.device
    history: History
    on_step: Callable[[dict[str, float]], None] | None

    def loader(self, records: Records, batch_size: int, stream: str | None = None, *, mode: Mode = "eval") -> Loader:
        """Batches of these records, shuffled by the random stream of that name or in order.

        Args:
            records: what to read.
            batch_size: examples in a batch.
            stream: name of the random stream.
            mode: "train" where layers learn statistics of each batch, so that none may hold one record alone.
        """
        generator = random_generator(self.seed, stream) if stream else None
        workers = self.runtime.workers
        return Loader(
            records,
            self.objective,
            batch_size=batch_size,
            device=self.device,
            generator=generator,
            workers=workers,
            merge_single=mode == "train",
        )


@dataclass(frozen=True, kw_only=True)
class Unlearned:
    """What a method gives back.

    Attributes:
        model: the unlearned model, in eval mode, on the device of the model that came in.
        history: what happened, step by step.
        seconds: wall time of the method.
        settings: the method's name and settings, JSON-able.
        seed: of the run.
    """

    model: nn.Module
    history: History = field(repr=False)
    seconds: float
    settings: dict[str, Any]
    seed: int


@dataclass(frozen=True, kw_only=True)
class Method(ABC):
    """From a model and a request to a model that has forgotten. The fields of a final class are its settings."""

    name: ClassVar[str]
    source: ClassVar[str]
    needs: ClassVar[frozenset[Need]] = frozenset()
    deterministic: ClassVar[bool] = False  # True where nothing is drawn, so that every seed gives the same bits
    tunable: ClassVar[dict[str, Tunable]] = {}
    shardable: ClassVar[bool] = False  # True where nothing is done to weights but steps, so that they may be shares

    def unlearn(
        self,
        model: nn.Module,
        request: Request,
        objective: Objective,
        *,
        seed: int = 0,
        recipe: Recipe | None = None,
        runtime: Runtime | None = None,
        on_step: Callable[[dict[str, float]], None] | None = None,
    ) -> Unlearned:
        """A new model in which the forget set is forgotten; the given one stays bit-identical.

        Args:
            model: trained on forget and retain set.
            request: what to forget. The half of the holdout set kept for evaluation is not handed on.
            objective: what a batch and a loss are.
            seed: the same seed on the same machine gives the same bits.
            recipe: how the model was trained; only some methods need it.
            runtime: device, precision and the like.
            on_step: called with each row of the history as it is written.

        Raises:
            SettingsError: something the method needs is missing, or no parameter can be trained.
            NonFiniteLossError: the run diverged.
        """
        runtime = runtime or Runtime()
        self._check(model, request, objective, recipe)
        if runtime.sharded and not self.shardable:
            raise SettingsError(
                f"{self.name} works on a model's weights as wholes, and sharded leaves each process a share of them. "
                "Leave the setting out, or use a method that takes steps alone, such as nabla_tau."
            )
        start = time.perf_counter()
        with isolated_randomness(seed):
            device, history = runtime.device_for(model), History()
            fresh = "recipe" in self.needs  # whose weights are not this model's, and sharded when they are drawn
            working = shard(model, device) if runtime.sharded and not fresh else self._own_copy(model, runtime, device)
            job = Job(
                request=request.for_methods(),
                objective=objective,
                recipe=recipe,
                seed=seed,
                runtime=runtime,
                device=device,
                history=history,
                on_step=on_step,
            )
            done = self._run(working, job)
            done = put_together(done, copied(model)) if is_sharded(done) else done
            unlearned = move(done, device_of(model)).eval()
        return Unlearned(
            model=unlearned,
            history=history,
            seconds=time.perf_counter() - start,
            settings=self.settings(),
            seed=seed,
        )

    def settings(self) -> dict[str, Any]:
        """The method's name and settings, JSON-able; `from_settings` makes the same method of them."""
        return {"method": self.name, **dataclasses.asdict(self)}

    @classmethod
    def from_settings(cls, settings: dict[str, Any]) -> "Method":
        """The method with these settings, as `settings` gives them."""
        return cls(**{name: value for name, value in settings.items() if name != "method"})

    def own_original(
        self,
        records: Records,
        objective: Objective,
        recipe: Recipe,
        *,
        like: nn.Module,
        seed: int,
        runtime: Runtime | None = None,
    ) -> nn.Module | None:
        """The original model that this method wants to start from; None where any trained model serves.

        Args:
            records: the whole training set.
            objective: what a batch and a loss are.
            recipe: how to train.
            like: a model of the same architecture, used where the recipe has no `build`.
            seed: of the training.
            runtime: device, precision and the like.
        """
        return None

    def why_not(self, model: nn.Module, request: Request, objective: Objective, recipe: Recipe | None) -> str:
        """Why this method cannot serve a request; empty if it can.

        Args:
            model, request, objective, recipe: as of `unlearn`.
        """
        try:
            self._check(model, request, objective, recipe)
        except (SettingsError, RequestError) as error:
            return str(error)
        return ""

    def _own_copy(self, model: nn.Module, runtime: Runtime, device: torch.device) -> nn.Module:
        """A copy that may be changed; frozen weights stay where they are if asked for, and this method moves none."""
        leaves_frozen = self.shardable and "recipe" not in self.needs and not runtime.sharded
        frozen = [each for each in model.parameters() if not each.requires_grad]
        return move(copied(model, shared=frozen if runtime.share_frozen and leaves_frozen else ()), device)

    @abstractmethod
    def _run(self, model: nn.Module, job: Job) -> nn.Module:
        """Unlearn in `model`, a copy that may be changed, and return it or another model."""

    def _check(self, model: nn.Module, request: Request, objective: Objective, recipe: Recipe | None) -> None:
        """Refuse before any work what cannot end well."""
        trainable_parameters(model)
        if "recipe" in self.needs and recipe is None:
            raise SettingsError(
                f"{self.name} trains from fresh weights and needs the training recipe. Pass recipe=Recipe(epochs=…, "
                "learning_rate=…, …) as the original model was trained."
            )
        if "outputs" in self.needs and not objective.has_outputs:
            raise SettingsError(
                f"{self.name} compares model outputs, and this objective knows losses only. Use "
                "Objective.classification(), .multi_label() or .regression()."
            )
        if "classes" in self.needs and objective.kind != "single-label":
            raise SettingsError(
                f"{self.name} works with class labels, and this objective is {objective.kind}. Use "
                "Objective.classification(), or another method."
            )
        if "tokens" in self.needs and not objective.has_tokens:
            raise SettingsError(
                f"{self.name} works on what a model says of each token, and this objective is {objective.kind}. Use "
                "Objective.causal_lm() or .token_classification(), or npo, which needs losses alone."
            )
        if "alternatives" in self.needs:
            try:
                objective.alternative(objective.collate([request.forget_set[0]]))
            except ObjectiveError as error:
                raise SettingsError(
                    f"{self.name} teaches other answers to the forget set's questions: {error} With --hf MODEL, name "
                    "their column: --alternative-column NAME."
                ) from error
        if "convolutions" in self.needs and not any(isinstance(module, nn.Conv2d) for module in model.modules()):
            raise SettingsError(
                f"{self.name} works on the kernels of two-dimensional convolutions, and this model has none. Use "
                "another method."
            )
        if "class request" in self.needs and request.goal != "class":
            raise RequestError(
                f"{self.name} removes whole classes; this request is made by {request.description.get('by')}. "
                "Use forget_class(…), or another method."
            )
