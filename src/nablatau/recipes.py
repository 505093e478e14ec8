"""Recipes: how a model is trained from fresh weights, so that it can be trained again without some records.

The retrained model is the gold standard of forgetting only if it differs from the original in its data
and in nothing else: hence one recipe for both, run by the one training loop.
"""

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from nablatau.batches import Batch
from nablatau.errors import SettingsError
from nablatau.history import History, Step
from nablatau.loading import Loader
from nablatau.modes import Mode
from nablatau.objectives import Objective
from nablatau.records import Records
from nablatau.runtime import Runtime, isolated_randomness, move, random_generator
from nablatau.sharding import put_together, shard
from nablatau.training import batch_mean, check_settings, linear_decay, run_steps, trainable_parameters

Augment = Callable[[Batch, torch.Generator], Batch]
"""From a batch on the device, and a CPU generator, to the batch with random transforms applied."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How to train from fresh weights.

    Attributes:
        epochs: passes over the training records.
        learning_rate: at the start.
        final_fraction: learning rate at the end ÷ at the start; it falls linearly, once an epoch.
        batch_size: examples in a step.
        optimizer: "sgd" or "adamw".
        momentum: of SGD.
        weight_decay: of either.
        build: makes a model with fresh weights, drawn from torch's global generator. None resets a copy of
            the original, for which every layer with weights needs `reset_parameters`.
        augment: random transforms of a batch in training.
    """

    epochs: int
    learning_rate: float
    final_fraction: float = 0.001
    batch_size: int = 256
    optimizer: Literal["sgd", "adamw"] = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    build: Callable[[], nn.Module] | None = None
    augment: Augment | None = None

    def __post_init__(self) -> None:
        check_counts(epochs=self.epochs, batch_size=self.batch_size)
        check_positive(learning_rate=self.learning_rate)
        if self.optimizer not in ("sgd", "adamw"):
            raise SettingsError(f"optimizer must be 'sgd' or 'adamw', not {self.optimizer!r}.")
        if not 0 <= self.final_fraction <= 1:
            raise SettingsError(f"final_fraction must lie in 0 … 1, not {self.final_fraction!r}.")

    def settings(self) -> dict[str, Any]:
        """The recipe as JSON-able values; functions by name."""
        named = {
            name: getattr(function, "__qualname__", repr(function)) if function else None
            for name, function in (("build", self.build), ("augment", self.augment))
        }
        return {name: value for name, value in vars(self).items() if name not in named} | named

    def fresh_model(self, like: nn.Module) -> nn.Module:
        """A model with fresh weights, from torch's global generator as it stands.

        Args:
            like: a model of the same architecture, used where the recipe has no `build`.

        Raises:
            SettingsError: a layer of `like` has weights and no `reset_parameters`.
        """
        return self.build() if self.build is not None else reset(copy.deepcopy(like))

    def check(self, like: nn.Module, runtime: Runtime) -> None:
        """Refuse settings under which a model cannot be trained by this recipe, before anything is done.

        Args:
            like: a model of the same architecture.
            runtime: of the training.

        Raises:
            SettingsError: a setting that does not go with BatchNorm, which is in train mode then, or with a model that
                has no blocks.
        """
        try:
            check_settings(like, runtime, "train", sharded=runtime.sharded)
        except SettingsError as error:
            raise SettingsError(
                f"The recipe's own training, which a reference takes, cannot run so: {error}"
            ) from error

    def optimizer_for(self, model: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over the model's trainable parameters."""
        parameters = trainable_parameters(model)
        if self.optimizer == "sgd":
            return torch.optim.SGD(
                parameters, lr=self.learning_rate, momentum=self.momentum, weight_decay=self.weight_decay
            )
        return torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=self.weight_decay)


def train(
    recipe: Recipe,
    records: Records,
    objective: Objective,
    *,
    like: nn.Module | None = None,
    seed: int,
    runtime: Runtime | None = None,
    history: History | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
    description: str = "training",
) -> nn.Module:
    """Train a model from fresh weights by a recipe.

    Args:
        recipe: how.
        records: on what.
        objective: what a batch and a loss are.
        like: a model of the same architecture, needed where the recipe has no `build`.
        seed: of weights, order, dropout and transforms; the same seed gives the same bits.
        runtime: device, precision and the like.
        history: gets one row a step.
        on_step: called with each row.
        description: what the progress bar says.

    Returns:
        The trained model, in eval mode.

    Raises:
        SettingsError: there is neither `recipe.build` nor `like`.
        NonFiniteLossError: training diverged.
    """
    runtime = runtime or Runtime()
    if recipe.build is None and like is None:
        raise SettingsError("Recipe.build is None and no model was given to copy: pass Recipe(build=…, …).")
    with isolated_randomness(seed):
        torch.manual_seed(seed)  # weights are drawn alike in every process
        model = recipe.build() if recipe.build is not None else recipe.fresh_model(like)  # type: ignore[arg-type]
        device = runtime.device_for(model)
        working = shard(model, device) if runtime.sharded else model
        fit(
            working,
            recipe,
            records,
            objective,
            seed=seed,
            runtime=runtime,
            device=device,
            history=history,
            on_step=on_step,
            description=description,
        )
        if runtime.sharded:
            put_together(working, move(model, device))
    return model.eval()


def fit(
    model: nn.Module,
    recipe: Recipe,
    records: Records,
    objective: Objective,
    *,
    seed: int,
    runtime: Runtime,
    device: torch.device,
    epochs: int | None = None,
    still: Sequence[nn.Module] = (),
    history: History | None = None,
    on_step: Callable[[dict[str, float]], None] | None = None,
    description: str = "training",
) -> None:
    """Train a model by a recipe, in place, from the weights that it has.

    Args:
        model: its trainable parameters are trained.
        recipe: how.
        records: on what.
        objective: what a batch and a loss are.
        seed: of order and transforms; dropout draws from the global generators, which are the caller's to seed.
        runtime: precision and the like.
        device: where to train.
        epochs: passes over the records; the recipe's unless given.
        still: modules that stay in eval mode.
        history: gets one row a step.
        on_step: called with each row.
        description: what the progress bar says.
    """
    epochs = recipe.epochs if epochs is None else epochs
    loader = Loader(
        records,
        objective,
        batch_size=recipe.batch_size,
        device=device,
        generator=random_generator(seed, "training order"),
        workers=runtime.workers,
        merge_single=True,
    )

    def step_loss(model: nn.Module, step: Step) -> dict[str, Tensor]:
        batch = step.batches["train"]
        return {"loss": batch_mean(objective, model, batch)}

    move(model, device)
    run_steps(
        model,
        _steps(recipe, epochs, loader, random_generator(seed, "augmentation")),
        step_loss,
        recipe.optimizer_for(model),
        runtime=runtime,
        device=device,
        mode="train",
        history=History() if history is None else history,
        total=epochs * len(loader),
        description=description,
        on_step=on_step,
        still=still,
        additive=True,
    )


def _steps(recipe: Recipe, epochs: int, loader: Loader, generator: torch.Generator) -> Iterator[Step]:
    for epoch in range(epochs):
        last = recipe.learning_rate * recipe.final_fraction
        rate = linear_decay(recipe.learning_rate, last, epoch, epochs)
        for batch in loader:
            if recipe.augment is not None:
                batch.data = recipe.augment(batch.data, generator)
            yield Step({"train": batch}, rate, {"epoch": float(epoch)})


def reset(model: nn.Module) -> nn.Module:
    """The model with fresh weights in every layer, changed in place.

    Args:
        model: every module of it that holds parameters or buffers itself needs `reset_parameters`.

    Raises:
        SettingsError: a module holds weights and has no `reset_parameters`, or a parameter is frozen.
    """
    frozen = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
    if frozen:
        raise SettingsError(
            f"{len(frozen)} parameters do not require a gradient ({frozen[0]}, …): they came from elsewhere, and fresh "
            "weights in their place would stay random. Pass Recipe(build=…, …), which makes the model as it was "
            "before training, pretrained parts included."
        )
    for name, module in model.named_modules():
        own = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
        elif own:
            raise SettingsError(
                f"Layer {name or 'of the model itself'} ({type(module).__qualname__}) holds weights and has no "
                "reset_parameters(), so fresh weights cannot be drawn, and retraining from old ones would forget "
                "nothing. Pass Recipe(build=lambda: YourModel(…), …)."
            )
    return model


def check_positive(**values: float) -> None:
    """Refuse settings that must be above 0.

    Raises:
        SettingsError: naming the setting, the rule and the value.
    """
    for name, value in values.items():
        if not value > 0:
            raise SettingsError(f"{name} must be above 0, not {value!r}.")


def check_counts(**values: float) -> None:
    """Refuse settings that count something and are no whole number above 0.

    Raises:
        SettingsError: naming the setting, the rule and the value.
    """
    check_positive(**values)
    for name, value in values.items():
        if value != int(value):
            raise SettingsError(f"{name} must be a whole number, not {value!r}.")


def check_mode(mode: Mode) -> None:
    """Refuse a mode that is neither "train" nor "eval"."""
    if mode not in ("train", "eval"):
        raise SettingsError(f"mode must be 'train' or 'eval', not {mode!r}.")
