"""Objectives: what a batch, a loss and a prediction are. The only place that looks inside a batch.

An objective answers for any task what unlearning needs: one loss an example, from a model and a batch.
Those made by `classification`, `multi_label` and `regression` also give predictions, margins and entropies,
which the evaluation asks for; one made by `of_loss` from any function gives losses alone, and the
evaluation then uses those.

`causal_lm` and `token_classification` have many targets an example. Their loss is the mean over the tokens that count,
so that every record weighs alike, however long it is, and a batch's loss is the mean over its records. (Hugging Face's
models take the mean over all tokens of a batch, in which long records weigh more: the two agree where all
records have equally many tokens that count.) The logits of a batch are never copied as a whole, see tokens.py.

Shapes: B examples in a batch, C classes, L labels, D outputs, T tokens, V words or classes of a token.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from nablatau import batches, packing, tokens
from nablatau.batches import IGNORED, Batch, Padding
from nablatau.errors import ObjectiveError, ReducedLossError
from nablatau.losses import LOSSES

Kind = Literal["single-label", "multi-label", "regression", "causal-lm", "token-classification", "loss"]
TOKEN_KINDS: frozenset[Kind] = frozenset({"causal-lm", "token-classification"})
"""Kinds with a target for each token."""
Outputs = Callable[[nn.Module, Batch], Tensor]
Targets = Callable[[Batch], Tensor]
OwnLoss = Callable[[nn.Module, Batch], Tensor]
Collate = Callable[[Sequence[Any]], Batch]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a batch, a loss and a prediction are.

    Attributes:
        kind: "single-label", "multi-label", "regression", "causal-lm", "token-classification", or "loss" where only
            losses are known.
        outputs: from model and batch to logits_BC, logits_BL, predictions_BD or logits_BTV; of no use to kind "loss".
        targets: from a batch to targets_B (class numbers), targets_BL (zeros and ones), targets_BD or targets_BT (what
            each position is to tell, −100 where that does not count); likewise.
        own_loss: of kind "loss" alone: from model and batch to loss_B, one value an example.
        collate: from a list of examples to a batch.
        packed_outputs: of kind "causal-lm", where texts go into the model behind one another (packing.py): from model
            and packed batch to logits_RWV. `outputs` are laid out as the batch is all the same.
    """

    kind: Kind
    outputs: Outputs
    targets: Targets
    own_loss: OwnLoss | None = None
    collate: Collate = batches.collate
    packed_outputs: Outputs | None = None

    @classmethod
    def classification(
        cls, *, outputs: Outputs | None = None, targets: Targets | None = None, collate: Collate = batches.collate
    ) -> "Objective":
        """Each example has one class; the loss is the cross-entropy, in nats.

        Args:
            outputs: from model and batch to logits_BC. Unless given, the model is called on everything in
                the batch but the target, and its result, or that result's `.logits`, is taken.
            targets: from a batch to class numbers_B. Unless given, the last entry of a tuple or the entry
                called label(s), target(s) or y.
            collate: from a list of examples to a batch; torch's own rules unless given.
        """
        return cls._of_kind("single-label", outputs, targets, collate)

    @classmethod
    def multi_label(
        cls, *, outputs: Outputs | None = None, targets: Targets | None = None, collate: Collate = batches.collate
    ) -> "Objective":
        """Each example has any number of labels; the loss is the mean binary cross-entropy over labels, in nats.

        Args:
            outputs, targets, collate: as in `classification`, for logits_BL and zeros and ones_BL.
        """
        return cls._of_kind("multi-label", outputs, targets, collate)

    @classmethod
    def regression(
        cls, *, outputs: Outputs | None = None, targets: Targets | None = None, collate: Collate = batches.collate
    ) -> "Objective":
        """Each example has one or more real targets; the loss is the mean squared error over them.

        Args:
            outputs, targets, collate: as in `classification`, for predictions_BD (or _B) and targets alike.
        """
        return cls._of_kind("regression", outputs, targets, collate)

    @classmethod
    def causal_lm(
        cls,
        *,
        pad_id: int = 0,
        outputs: Outputs | None = None,
        targets: Targets | None = None,
        collate: Collate | None = None,
        packed: bool = False,
    ) -> "Objective":
        """Each example is a text; the loss is the mean cross-entropy of its labelled tokens, in nats a token.

        Labels are laid out as the input is, −100 at tokens of a prompt and at filling; each position tells the token
        after it, so labels are moved by one here, and the data set does not do it.

        Args:
            pad_id: token with which shorter texts of a batch are filled up.
            outputs: from model and batch to logits_BTV. Unless given, the model is called on everything in
                the batch but the labels, and its result, or that result's `.logits`, is taken.
            targets: from a batch to what each position is to tell_BT. Unless given, the labels moved by one.
            collate: from a list of examples to a batch; unless given, texts are filled up on the right.
            packed: lay texts of a batch behind one another on their way into the model, so that no time goes into
                filling; for Hugging Face's models, each of which is first tried for whether it keeps them apart.
        """
        ask = outputs or call_model
        return cls(
            kind="causal-lm",
            outputs=partial(packing.unpacked_outputs, ask=ask) if packed else ask,
            targets=targets or next_tokens,
            collate=collate or Padding(pad_id),
            packed_outputs=ask if packed else None,
        )

    @classmethod
    def token_classification(
        cls,
        *,
        pad_id: int = 0,
        outputs: Outputs | None = None,
        targets: Targets | None = None,
        collate: Collate | None = None,
    ) -> "Objective":
        """Each token has one class; the loss is the mean cross-entropy of the labelled tokens, in nats a token.

        Args:
            pad_id, outputs, collate: as in `causal_lm`.
            targets: from a batch to class numbers_BT, −100 where a token has none; as in `classification` unless given.
        """
        return cls._of_kind("token-classification", outputs, targets, collate or Padding(pad_id))

    @classmethod
    def of_loss(cls, loss: OwnLoss, *, collate: Collate = batches.collate) -> "Objective":
        """Any loss: all that ∇τ itself needs.

        Args:
            loss: from model and batch to loss_B, one value an example, never reduced.
            collate: from a list of examples to a batch; torch's own rules unless given.
        """
        return cls(kind="loss", outputs=call_model, targets=read_targets, own_loss=loss, collate=collate)

    @classmethod
    def _of_kind(cls, kind: Kind, outputs: Outputs | None, targets: Targets | None, collate: Collate) -> "Objective":
        return cls(kind=kind, outputs=outputs or call_model, targets=targets or read_targets, collate=collate)

    @property
    def has_outputs(self) -> bool:
        """Whether predictions are known beside losses."""
        return self.own_loss is None

    @property
    def has_tokens(self) -> bool:
        """Whether each token of an example has a target of its own."""
        return self.kind in TOKEN_KINDS

    def summed(self, losses: Tensor, batch: Batch) -> Tensor:
        """−log of each example's probability, where a loss is a mean over its tokens, labels or outputs.

        Of tokens and labels the sum over them: −log of the probability of all of them together. Of D outputs, whose
        loss is their mean squared error, D/2 times that: −log of the density of normal errors of variance 1 (one
        squared target unit), up to (D/2) · log 2π, which no ratio of probabilities sees. A class's loss is −log p as it
        is, and one's own (`of_loss`) is taken for it.

        Args:
            losses: loss_B of the batch.
            batch: with the targets.
        """
        if self.kind == "multi-label":
            return losses * self.targets(batch).shape[1]
        if self.kind == "regression":
            return losses * (self.targets(batch).shape[1:].numel() / 2)
        return losses * tokens.counts(self.targets(batch)) if self.has_tokens else losses

    def laid_out(self, values: Tensor, model: nn.Module, batch: Batch) -> Tensor:
        """What one of a model's modules put out when it was asked for a batch, laid out as the batch is: (B, T, …).

        Args:
            values: the module's output, which of packed batches has their rows.
            model: that was asked.
            batch: likewise.
        """
        return values if self.packed_outputs is None else packing.unpacked_activations(model, batch, values)

    def alternative(self, batch: Batch) -> Batch:
        """The batch's questions with answers to give instead: what lies under "alternative" in its examples.

        Raises:
            ObjectiveError: nothing does.
        """
        found = batches.alternative_of(batch)
        if found is None:
            raise ObjectiveError(
                "The examples hold no alternative answers. Yield dicts with one more entry, 'alternative': "
                "{'input_ids': …, 'labels': …}, the same question with an answer to give instead, such as “I don't "
                "know”."
            )
        return found

    def loss_of_outputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """loss_B of given outputs, for every kind but "loss"."""
        return LOSSES[self.kind](outputs, targets, "none")

    def mean_of_outputs(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean of `loss_of_outputs` over the batch, in one operation."""
        return LOSSES[self.kind](outputs, targets, "mean")

    def mean_loss(self, model: nn.Module, batch: Batch, size: int) -> Tensor:
        """The mean of `loss` over the batch, in one operation where there is one (5 % of a small network's step)."""
        if self.own_loss is not None or self.packed_outputs is not None:
            return self.loss(model, batch, size).mean()
        return self.mean_of_outputs(self.outputs(model, batch), self.targets(batch))

    def loss(self, model: nn.Module, batch: Batch, size: int) -> Tensor:
        """The loss of each example.

        Args:
            model: the model, in the mode in which it is to be asked.
            batch: a collated batch, on the model's device.
            size: number of examples in it, B.

        Returns:
            loss_B, with gradient where gradients are on.

        Raises:
            ReducedLossError: a scalar came back.
            ObjectiveError: another shape than (B,) came back.
        """
        if self.own_loss is not None:
            losses = self.own_loss(model, batch)
        elif self.packed_outputs is not None:
            targets_BT = self.targets(batch)
            losses_BT = packing.token_losses(model, batch, targets_BT, self.packed_outputs)
            losses = tokens.mean_over_tokens(losses_BT, targets_BT)
        else:
            losses = self.loss_of_outputs(self.outputs(model, batch), self.targets(batch))
        if losses.shape != (size,):
            raise _wrong_shape(losses, size)
        return losses


# ---------------------------------------------------------------------- the default reading of a batch


def call_model(model: nn.Module, batch: Batch) -> Tensor:
    """The model's output on everything in the batch but its target.

    Raises:
        ObjectiveError: the model returned something of which the output cannot be told.
    """
    inputs, _ = batches.split_target(batch)
    if isinstance(inputs, tuple):
        result = model(*inputs)
    elif isinstance(inputs, dict):
        result = model(**inputs)
    else:
        result = model(inputs)
    if isinstance(result, Tensor):
        return result
    logits = result.get("logits") if isinstance(result, Mapping) else getattr(result, "logits", None)
    if isinstance(logits, Tensor):
        return logits
    raise ObjectiveError(
        f"The model returned a {type(result).__qualname__} without .logits, so its output cannot be told. "
        "Pass outputs=lambda model, batch: …, which returns a tensor with one row an example."
    )


def read_targets(batch: Batch) -> Tensor:
    """The target in a batch.

    Raises:
        ObjectiveError: no target can be told apart.
    """
    _, target = batches.split_target(batch)
    if isinstance(target, Tensor):
        return target
    form = type(batch).__qualname__
    raise ObjectiveError(
        f"No target can be told apart in a batch of type {form}. Yield (inputs, target), or a dict or dataclass "
        f"with an entry named {', '.join(batches.TARGET_NAMES)}; or pass targets=lambda batch: …."
    )


def next_tokens(batch: Batch) -> Tensor:
    """What each position of a text is to tell: the label of the token after it, and −100 at the last.

    Raises:
        ObjectiveError: no labels can be told apart.
    """
    labels_BT = read_targets(batch)
    return functional.pad(labels_BT[:, 1:], (0, 1), value=IGNORED)


def _wrong_shape(losses: Tensor, size: int) -> ObjectiveError:
    """The error for a loss that is not one value an example."""
    if losses.ndim == 0:
        return ReducedLossError(
            "The loss came back as one number for the whole batch. Unlearning and evaluation need one value an "
            "example: pass reduction='none' to the loss function (and take the mean over everything but the "
            "first dimension), for instance functional.cross_entropy(logits, labels, reduction='none')."
        )
    hint = f" Take its mean over the last {losses.ndim - 1} dimensions." if losses.ndim > 1 else ""
    return ObjectiveError(
        f"The loss has shape {tuple(losses.shape)} for a batch of {size} examples; it must be ({size},), one value "
        f"an example.{hint}"
    )


def describe(objective: Objective) -> dict[str, str | bool]:
    """The objective as it stands in a run's record: its kind, whether packed, and the name of a user's own loss."""
    if objective.packed_outputs is not None:
        return {"kind": objective.kind, "packed": True}
    if objective.own_loss is None:
        return {"kind": objective.kind}
    function = inspect.unwrap(objective.own_loss)
    return {"kind": objective.kind, "loss": getattr(function, "__qualname__", type(function).__qualname__)}
