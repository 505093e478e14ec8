"""Losses of each kind of objective, as pure functions of outputs and targets: one value an example, or their mean.

Cross-entropy, binary cross-entropy and squared error are torch's; ours are the checks of shapes and labels, and that
many values of an example are one by their mean. Logits of tokens go some rows at a time, see tokens.py.

Shapes: B examples in a batch, C classes, L labels, D outputs, T tokens, V words or classes of a token.
"""

from collections.abc import Callable
from typing import Literal

from torch import Tensor
from torch.nn import functional

from nablatau import tokens
from nablatau.errors import ObjectiveError, shortened

Reduction = Literal["none", "mean"]


def cross_entropy(logits_BC: Tensor, targets_B: Tensor, reduction: Reduction = "none") -> Tensor:
    """−log softmax(z)_y of each example, or its mean over the batch, in nats.

    Raises:
        ObjectiveError: shapes or labels that do not fit the logits.
    """
    if logits_BC.ndim != 2 or targets_B.shape != logits_BC.shape[:1]:
        raise ObjectiveError(
            f"Classification needs logits of shape (B, C) and class numbers of shape (B,), not "
            f"{tuple(logits_BC.shape)} and {tuple(targets_B.shape)}. If examples have several labels use "
            "Objective.multi_label(); for anything else Objective.of_loss(fn)."
        )
    try:
        return functional.cross_entropy(logits_BC, targets_B, reduction=reduction)
    except (IndexError, RuntimeError) as error:
        labels, classes = sorted(set(targets_B.tolist())), logits_BC.shape[1]
        if targets_B.is_floating_point() or min(labels) < 0 or max(labels) >= classes:
            raise ObjectiveError(
                f"The model gives {classes} logits, so labels must be whole numbers from 0 to {classes - 1}; this "
                f"batch has {shortened(labels)}. Number the classes as the model does. A single logit for two "
                "classes is a task for Objective.multi_label()."
            ) from error
        raise


def binary_cross_entropy(logits_BL: Tensor, targets_BL: Tensor, reduction: Reduction = "none") -> Tensor:
    """Mean over labels of the binary cross-entropy of each example, or its mean over the batch, in nats.

    Raises:
        ObjectiveError: shapes that do not fit each other.
    """
    if logits_BL.ndim != 2 or targets_BL.shape != logits_BL.shape:
        raise ObjectiveError(
            f"Multi-label classification needs logits and zero-one targets of one shape (B, L), not "
            f"{tuple(logits_BL.shape)} and {tuple(targets_BL.shape)}. Encode labels as one column a label."
        )
    losses = functional.binary_cross_entropy_with_logits(logits_BL, targets_BL.to(logits_BL.dtype), reduction=reduction)
    return losses if reduction == "mean" else losses.mean(dim=1)


def squared_error(predictions: Tensor, targets: Tensor, reduction: Reduction = "none") -> Tensor:
    """Mean over outputs of the squared error of each example, or its mean over the batch, in squared target units.

    A prediction of shape (B, 1) fits targets of shape (B,): broadcasting them would give B × B errors.

    Raises:
        ObjectiveError: shapes that do not fit each other.
    """
    predictions_BD, targets_BD = predictions.reshape(len(predictions), -1), targets.reshape(len(targets), -1)
    if predictions_BD.shape != targets_BD.shape:
        raise ObjectiveError(
            f"Regression needs predictions and targets of one shape, not {tuple(predictions.shape)} and "
            f"{tuple(targets.shape)}. Pass outputs= or targets= that bring them to one shape."
        )
    losses = functional.mse_loss(predictions_BD, targets_BD.to(predictions_BD.dtype), reduction=reduction)
    return losses if reduction == "mean" else losses.mean(dim=1)


def token_cross_entropy(logits_BTV: Tensor, targets_BT: Tensor, reduction: Reduction = "none") -> Tensor:
    """Mean over an example's tokens that count of −log softmax(z)_y, or its mean over the batch, in nats a token.

    Args:
        logits_BTV: of any type; the result is in float32 or wider.
        targets_BT: what each position is to tell; −100 where that does not count.
        reduction: "mean" is the mean over examples, in which each weighs alike.

    Raises:
        ObjectiveError: shapes or labels that do not fit the logits, or an example without a token that counts.
    """
    losses_BT = tokens.of_tokens(tokens.cross_entropy_rows, logits_BTV, targets_BT)
    losses_B = tokens.mean_over_tokens(losses_BT, targets_BT)
    return losses_B.mean() if reduction == "mean" else losses_B


LOSSES: dict[str, Callable[[Tensor, Tensor, Reduction], Tensor]] = {
    "single-label": cross_entropy,
    "multi-label": binary_cross_entropy,
    "regression": squared_error,
    "causal-lm": token_cross_entropy,
    "token-classification": token_cross_entropy,
}
"""From outputs and targets to loss_B, or to its mean, by kind of objective."""
