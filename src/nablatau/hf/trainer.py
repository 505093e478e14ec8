"""`NablaTauTrainer`: forgetting from a script that is written for `transformers.Trainer`.

A Trainer in all that surrounds the training: it takes the script's model, data sets, collator, tokenizer, arguments
and callbacks, tells the callbacks of every step, logs, evaluates, saves and pushes. Its `train()` has no loop of its
own: it hands the request made of the data sets to `nablatau.forget`, so the weights are those of the front door.

Where it differs from a Trainer, and why:
- `trainer.model` is a new model after `train()`, and the one that was given stays as it was: evidence compares them.
- Arguments that say how to train (rates, epochs, batches, schedules) are refused rather than ignored: ∇τ takes these
  from the model and the request. `max_grad_norm`, which is 1 in every Trainer unless given, is not applied.
- No checkpoints are written on the way, and a run cannot be resumed: half of it is not half of the forgetting.
- Callbacks see begin, steps, logs and end of the run. They cannot stop it.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from torch import nn
from torch.utils.data import ConcatDataset

from nablatau.api import forget
from nablatau.batches import Batch
from nablatau.data import Request, TrainingData
from nablatau.errors import RequestError, SettingsError, shortened
from nablatau.fingerprints import Readable
from nablatau.hf.extras import library
from nablatau.methods import Method, find_preset
from nablatau.methods.low_rank import is_adapted
from nablatau.objectives import Collate, Objective
from nablatau.results import Forgotten
from nablatau.runtime import Precision, Runtime

transformers = library("transformers", "Trainers")

WITHOUT_EFFECT = (
    *("per_device_train_batch_size", "gradient_accumulation_steps", "num_train_epochs", "max_steps", "learning_rate"),
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args", "optim_target_modules"),
    *("weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "label_smoothing_factor"),
    *("neftune_noise_alpha", "auto_find_batch_size", "dataloader_drop_last", "train_sampling_strategy", "data_seed"),
    *("activation_checkpointing", "gradient_checkpointing", "torch_compile", "use_liger_kernel", "fsdp", "deepspeed"),
    *("eval_strategy", "eval_on_start", "load_best_model_at_end", "resume_from_checkpoint"),
)
"""Fields of TrainingArguments that must have the value which they have by themselves."""
MADE_FOR = {
    "ForCausalLM": Objective.causal_lm,
    "LMHeadModel": Objective.causal_lm,
    "ForTokenClassification": Objective.token_classification,
}
"""From the end of a model class's name to its objective; of other classifications the config tells the kind."""


class NablaTauTrainer(transformers.Trainer):  # type: ignore[misc, name-defined]  # imported when needed, so untyped
    """Makes a model forget, with the interface of `transformers.Trainer`.

    What to forget is said in one of two ways: `train_dataset` with `forget_ids`, or `forget_dataset` beside
    `retain_dataset`. Data sets are map-style, of dicts, as any Trainer takes them, `datasets.Dataset` among them.

    Args:
        model: trained on the forget and the retain records.
        args: TrainingArguments. Of them apply output folder, device, `seed`, `bf16` and `fp16`,
            `dataloader_num_workers`, `per_device_eval_batch_size`, and all for logging, reports, saving and the hub.
        train_dataset: all records that the model was trained on.
        forget_ids: ids of those that must go; positions where there is no `id_column`.
        id_column: entry of a record that holds its id.
        forget_dataset: the records that must go.
        retain_dataset: the other records that the model was trained on.
        eval_dataset: records that it was not trained on, the holdout set: half of them shows the method what "unseen"
            looks like, half is left for the evidence.
        data_collator, processing_class, compute_metrics, callbacks: as of a Trainer.
        preset: "default", "paper" or "paper-text".
        method: any other method, or ∇τ with settings of your own, in place of a preset.
        objective: what a batch and a loss are; told from the model's class and config unless given.

    Attributes:
        request: what is to be forgotten; for `nablatau.evaluate`.
        objective: what a batch and a loss are; likewise.
        original: the model that was given, which stays as it is.
        result: what `nablatau.forget` gave, with history and record; None before `train()`.

    Raises:
        SettingsError: arguments that contradict each other, or would have no effect.
        RequestError, OverlapError: data sets or ids that cannot serve.
    """

    control: Any  # what the callbacks wish, a TrainerControl

    def __init__(
        self,
        model: nn.Module,
        args: Any = None,
        *,
        train_dataset: Readable | None = None,
        forget_ids: Iterable[Hashable] | None = None,
        id_column: str | None = None,
        forget_dataset: Readable | None = None,
        retain_dataset: Readable | None = None,
        eval_dataset: Readable | None = None,
        data_collator: Callable[[list[Any]], Any] | None = None,
        processing_class: Any = None,
        compute_metrics: Callable[[Any], dict[str, float]] | None = None,
        callbacks: list[Any] | None = None,
        preset: str | None = None,
        method: Method | None = None,
        objective: Objective | None = None,
    ) -> None:
        if preset is not None and method is not None:
            raise SettingsError("preset and method both say how to forget. Pass one of them.")
        if eval_dataset is None:
            raise SettingsError(
                "eval_dataset is missing: records that the model was not trained on show the method where to stop, and "
                "the evidence what to compare with. Pass a validation set that was kept out of training."
            )
        check_chosen(
            train_dataset=train_dataset,
            forget_ids=forget_ids,
            id_column=id_column,
            forget_dataset=forget_dataset,
            retain_dataset=retain_dataset,
        )
        if args is not None:
            check_arguments(args)
        self.method = method or find_preset(preset or "default")
        super().__init__(
            model=model,
            args=args,
            data_collator=data_collator,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            processing_class=processing_class,
            compute_metrics=compute_metrics,
            callbacks=callbacks,
        )
        self.request = self._request(train_dataset, forget_ids, id_column, forget_dataset, retain_dataset)
        self.objective = objective or objective_of(model, _as_dict(self.data_collator))
        self.original = model
        self.result: Forgotten | None = None

    def train(self, resume_from_checkpoint: str | bool | None = None) -> Any:
        """Forget, starting from the model that was given; `trainer.model` is then the one that has forgotten.

        Args:
            resume_from_checkpoint: must not be given.

        Returns:
            A TrainOutput: number of steps, mean loss of the steps, and metrics.

        Raises:
            SettingsError: a run is to be resumed, or the method needs something that is missing.
            NonFiniteLossError: the run diverged; `trainer.model` is as it was.
        """
        if resume_from_checkpoint:
            raise SettingsError("A run of forgetting cannot be resumed: it is short, and starts from the original.")
        self.state.global_step = 0
        self.state.compute_steps(self.args, 0)
        self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
        self.result = forget(
            self.original,
            self.request,
            self.objective,
            method=self.method,
            seed=self.args.seed,
            runtime=runtime_of(self.args),
            on_step=self._on_step,
        )
        self.model = self.model_wrapped = self.callback_handler.model = self.result.model
        metrics = self._metrics(self.result)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        return transformers.trainer_utils.TrainOutput(self.state.global_step, metrics["train_loss"], metrics)

    def _request(
        self,
        train: Readable | None,
        ids: Iterable[Hashable] | None,
        id_column: str | None,
        forget_set: Readable | None,
        retain_set: Readable | None,
    ) -> Request:
        """What is to be forgotten, of records that hold what the model takes and nothing else."""
        names = self._columns_of_the_model()
        unseen = _Columns(self.eval_dataset, names)
        if train is not None and ids is not None:
            known = None if id_column is None else _ids_in(train, id_column)
            return TrainingData(_Columns(train, names), unseen, ids=known).forget_ids(ids)
        assert forget_set is not None
        joined: ConcatDataset[Any] = ConcatDataset([forget_set, retain_set])  # type: ignore[list-item]
        return TrainingData(_Columns(joined, names), unseen).forget_ids(range(len(forget_set)))

    def _on_step(self, row: dict[str, float]) -> None:
        """What a Trainer does after each step: the callbacks decide whether it is logged."""
        self.control = self.callback_handler.on_step_begin(self.args, self.state, self.control)
        self.state.global_step += 1
        self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
        if self.control.should_log:
            self.log({name: value for name, value in row.items() if name not in ("step", "seconds")})

    def _metrics(self, result: Forgotten) -> dict[str, float]:
        losses = result.history.columns.get("loss", [])
        return {
            "train_runtime": result.seconds,
            "train_loss": sum(losses) / max(1, len(losses)),
            "trained_samples": float(result.history.trained_samples),
            "forgotten": float(result.forgotten),
        }

    def _columns_of_the_model(self) -> frozenset[str] | None:
        """Entries of a record that the model takes, labels among them; None for all."""
        if not self.args.remove_unused_columns:
            return None
        self._set_signature_columns_if_needed()
        return frozenset(self._signature_columns)


def check_arguments(args: Any) -> None:
    """Refuse TrainingArguments that would have no effect.

    Args:
        args: of a Trainer.

    Raises:
        SettingsError: naming them all.
    """
    usual = {field.name: field.default for field in fields(args)}
    idle = [name for name in WITHOUT_EFFECT if name in usual and (getattr(args, name) or None) != (usual[name] or None)]
    idle += ["save_strategy"] if args.save_strategy not in ("steps", "no") else []
    idle += ["logging_strategy"] if args.logging_strategy not in ("steps", "no") else []
    idle += ["logging_steps"] if args.logging_steps < 1 else []
    if idle:
        raise SettingsError(
            f"{', '.join(idle)} of the TrainingArguments would have no effect: ∇τ takes steps, rates and batches from "
            "model and request, and evaluates and saves nothing on the way. Leave them out; for settings of your own "
            "pass method=…, such as NablaTau(batch_size=64), and call trainer.evaluate() and trainer.save_model()."
        )


def runtime_of(args: Any) -> Runtime:
    """How TrainingArguments say to run."""
    precision: Precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    return Runtime(
        device=str(args.device),
        precision=precision,
        workers=args.dataloader_num_workers,
        progress=False,  # the callbacks show it
        evaluation_batch_size=args.per_device_eval_batch_size,
    )


def objective_of(model: Any, collate: Collate) -> Objective:
    """The objective that a transformers model was trained for, from its class and config.

    Args:
        model: of transformers, or such a one with an adapter.
        collate: from a list of examples to a batch.

    Raises:
        SettingsError: a class of which it cannot be told.
    """
    whole = model.get_base_model() if is_adapted(model) else model
    name, config = type(whole).__name__, getattr(whole, "config", None)
    for ending, objective in MADE_FOR.items():
        if name.endswith(ending):
            return objective(collate=collate)
    if name.endswith("Classification") and config is not None:
        kind = config.problem_type or ("regression" if config.num_labels == 1 else "single_label_classification")
        by_kind = {
            "regression": Objective.regression,
            "single_label_classification": Objective.classification,
            "multi_label_classification": Objective.multi_label,
        }
        return by_kind[kind](collate=collate)
    raise SettingsError(
        f"It cannot be told from {name} what a loss is. Pass objective=nablatau.Objective.of_loss(fn, collate=…), of a "
        "function from model and batch to one loss an example."
    )


def _as_dict(collator: Callable[[list[Any]], Any]) -> Collate:
    """The collator, its batches as plain dicts: transformers' own are moved to a device otherwise."""

    def collate(examples: Sequence[Batch]) -> Batch:
        return dict(collator(list(examples)))

    return collate


class _Columns:
    """A map-style data set of dicts with some of their entries: a copy is one whatever its id, and a text is not read.

    Args:
        dataset: of N examples.
        names: of the entries to keep; None for all.
    """

    def __init__(self, dataset: Readable, names: frozenset[str] | None) -> None:
        self.dataset, self.names = dataset, names

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, position: int) -> Any:
        example = self.dataset[position]
        if self.names is None or not isinstance(example, Mapping):
            return example
        return {name: value for name, value in example.items() if name in self.names}


def check_chosen(**given: object) -> None:
    """Refuse arguments that do not say in one way what is to be forgotten.

    Args:
        given: arguments of `NablaTauTrainer`, by name; None where one is not given.

    Raises:
        SettingsError: neither way, half of one, or both.
    """
    names = {name for name, value in given.items() if value is not None} - {"id_column"}
    by_ids, by_parts = {"train_dataset", "forget_ids"}, {"forget_dataset", "retain_dataset"}
    if names not in (by_ids, by_parts) or (names == by_parts and given["id_column"] is not None):
        raise SettingsError(
            "Say what to forget in one of two ways: train_dataset=… with forget_ids=… (and id_column=…, else ids are "
            "positions), or forget_dataset=… with retain_dataset=…."
        )


def _ids_in(dataset: Readable, column: str) -> list[Hashable]:
    """The id of each record."""
    first = dataset[0]
    if column not in first:
        raise RequestError(
            f"The records of train_dataset have no entry {column!r}, so ids cannot be read from it. They have "
            f"{shortened(list(first))}; name the right one with id_column=…."
        )
    return [dataset[position][column] for position in range(len(dataset))]
