"""Tokens: what a model says of each one, from its logits some rows at a time, and means over the tokens of an example.

Logits over a vocabulary are the largest thing in a language model's step: 8 texts of 512 tokens and 128,000 words make
a gigabyte in bfloat16, and the copy in float32 that a loss needs two more. Here the copy is made of some rows at a
time, in the forward and again in the backward pass, so that beside the logits and their gradient, which are of
the logits' own type, no more than `NUMBERS_AT_ONCE` numbers are in memory a few times over.

What fits into one piece takes torch's own way, through which all of its transforms go.

Shapes: B examples in a batch, T positions, R = B · T rows, V words or classes.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from nablatau.batches import IGNORED
from nablatau.errors import ObjectiveError, shortened

NUMBERS_AT_ONCE = {"cpu": 2**21, "cuda": 2**24}
"""Logits that are in memory in float32 at a time, by device: 8 MB and 64 MB. Of larger pieces a CPU's allocator keeps
some back (2**23 took twice the memory), and of smaller ones a GPU has too many to start."""

RowValues = Callable[..., Tensor]
"""From logits_RV in float32 or wider, and what goes with these rows, to values of shape (R,) or (R, K)."""


def by_rows(values_of: RowValues, logits_RV: Tensor, *others: Tensor) -> Tensor:
    """What `values_of` says of each row of logits, some rows at a time, with its gradient in the logits alone.

    Args:
        values_of: the values of a row depend on this row alone.
        logits_RV: of any type; `values_of` is given them in float32 or wider.
        others: further tensors of R rows, handed on as they are, without gradient.

    Returns:
        values of shape (R,) or (R, K), in float32 or wider.
    """
    rows = max(1, NUMBERS_AT_ONCE.get(logits_RV.device.type, 2**22) // logits_RV.shape[1])
    if len(logits_RV) <= rows:
        return values_of(_wide(logits_RV), *others)
    found: Tensor = _ByRows.apply(values_of, rows, logits_RV, *others)  # type: ignore[no-untyped-call]
    return found


class _ByRows(torch.autograd.Function):
    """`by_rows` for more than one piece; the backward pass makes each piece's float32 copy anew."""

    @staticmethod
    def forward(ctx: Any, values_of: RowValues, rows: int, logits_RV: Tensor, *others: Tensor) -> Tensor:
        ctx.values_of, ctx.rows = values_of, rows
        ctx.save_for_backward(logits_RV, *others)
        pieces = zip(*(torch.split(each, rows) for each in (logits_RV, *others)), strict=True)
        return torch.cat([values_of(_wide(logits), *rest) for logits, *rest in pieces])

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> Any:
        twice = torch.is_grad_enabled()  # a gradient of the gradient is wanted
        logits_RV, *others = ctx.saved_tensors
        gradient_RV = torch.empty_like(logits_RV)
        columns = [torch.split(each, ctx.rows) for each in (logits_RV, outer[0], *others)]
        for number, (logits, slope, *rest) in enumerate(zip(*columns, strict=True)):
            with torch.enable_grad():
                free = logits if twice else logits.detach().requires_grad_()
                values = ctx.values_of(_wide(free), *rest)
                (found,) = torch.autograd.grad(values, free, slope, create_graph=twice)
            gradient_RV[number * ctx.rows : number * ctx.rows + len(found)] = found
        return None, None, gradient_RV, *(None for _ in others)


def _wide(logits: Tensor) -> Tensor:
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


# ---------------------------------------------------------------------- values of each token


def cross_entropy_rows(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    """−log softmax(z)_y of each row, in nats; 0 where the target is −100."""
    return functional.cross_entropy(logits_RV, targets_R, ignore_index=IGNORED, reduction="none")


def right_rows(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    """1 where the likeliest word is the target, else 0; also for −100."""
    return (logits_RV.argmax(dim=1) == targets_R).float()


def readings(logits_RV: Tensor, targets_R: Tensor) -> Tensor:
    """(R, 4): loss, entropy, 1 where the likeliest is the target, the deviation of log p; loss and right 0 for −100.

    Loss, entropy and deviation are in nats. Under the model's own distribution log p has the mean −entropy and that
    standard deviation, from squared differences, for E[x²] − E[x]² is below 0 by rounding where all words are nearly
    as likely. It is never less than the root of the smallest normal number, as where one word is all but certain.
    """
    log_chances_RV = functional.log_softmax(logits_RV, dim=1)
    loss_R = functional.nll_loss(log_chances_RV, targets_R, ignore_index=IGNORED, reduction="none")
    chances_RV = log_chances_RV.exp()
    entropy_R = torch.special.entr(chances_RV).sum(dim=1)
    right_R = logits_RV.argmax(dim=1) == targets_R
    gaps_RV = log_chances_RV.add_(entropy_R[:, None]).masked_fill_(chances_RV == 0, 0)  # 0 · ∞² of a masked word is 0
    variance_R = chances_RV.mul_(gaps_RV.square_()).sum(dim=1)
    deviation_R = variance_R.clamp(min=torch.finfo(variance_R.dtype).tiny).sqrt()
    return torch.stack([loss_R, entropy_R, right_R.to(loss_R.dtype), deviation_R], dim=1)


# ---------------------------------------------------------------------- values of each example


def of_tokens(values_of: RowValues, logits_BTV: Tensor, targets_BT: Tensor, *others: Tensor) -> Tensor:
    """`by_rows` over all tokens of a batch.

    Args:
        values_of: given rows of logits, of targets and of the others.
        logits_BTV: of any type.
        targets_BT: class or word numbers; −100 where nothing counts.
        others: tensors of shape (B, T, …).

    Returns:
        values of shape (B, T) or (B, T, K).

    Raises:
        ObjectiveError: shapes, or targets, that do not fit the logits.
    """
    if logits_BTV.ndim != 3 or targets_BT.shape != logits_BTV.shape[:2]:
        raise ObjectiveError(
            f"Logits of each token have shape (B, T, V) and labels (B, T), not {tuple(logits_BTV.shape)} and "
            f"{tuple(targets_BT.shape)}. Give each token of the input a label, −100 for those that do not count; for "
            "anything else use Objective.of_loss(fn)."
        )
    flat = (each.flatten(0, 1) for each in (targets_BT, *others))
    try:
        values = by_rows(values_of, logits_BTV.flatten(0, 1), *flat)
    except (IndexError, RuntimeError) as error:
        words = logits_BTV.shape[2]
        outside = targets_BT[(targets_BT != IGNORED) & ((targets_BT < 0) | (targets_BT >= words))]
        if targets_BT.is_floating_point() or len(outside):
            raise ObjectiveError(
                f"The model gives {words} logits a token, so labels must be whole numbers from 0 to {words - 1}, or "
                f"−100; this batch has {shortened(sorted(set(outside.tolist())))}. Is the tokenizer the model's own?"
            ) from error
        raise
    return values.view(*targets_BT.shape, *values.shape[1:])


def counts(targets_BT: Tensor) -> Tensor:
    """How many tokens of each example count.

    Raises:
        ObjectiveError: an example has none.
    """
    counts_B = (targets_BT != IGNORED).sum(dim=1)
    if not counts_B.all():
        rows = torch.nonzero(counts_B == 0).flatten().tolist()
        raise ObjectiveError(
            f"{len(rows)} of {len(counts_B)} examples of a batch (numbers {shortened(rows)} in it) have no label that "
            "counts: all are −100, or in a causal language model all but that of the first token, which nothing "
            "precedes. Their loss would be a mean over nothing. Leave them out, or cut texts so that a part of the "
            "answer stays."
        )
    return counts_B


def mean_over_tokens(values_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """The mean of each example's values over the tokens that count.

    Args:
        values_BT: one value a token.
        targets_BT: −100 where a token does not count.
    """
    return (values_BT * (targets_BT != IGNORED)).sum(dim=1) / counts(targets_BT)


def lowest_means(values_BT: Tensor, targets_BT: Tensor, share: float) -> Tensor:
    """The mean of each example's lowest values, over this share of its tokens that count, rounded down, at least one.

    Args:
        values_BT: one value a token.
        targets_BT: −100 where a token does not count.
        share: above 0, up to 1.
    """
    ordered_BT = values_BT.masked_fill(targets_BT == IGNORED, float("inf")).sort(dim=1).values
    taken_B = (share * counts(targets_BT) + 1e-9).floor().clamp(min=1)
    lowest_BT = torch.arange(values_BT.shape[1], device=values_BT.device) < taken_B[:, None]
    return ordered_BT.masked_fill(~lowest_BT, 0).sum(dim=1) / taken_B


def extraction_strengths(right_BT: Tensor, targets_BT: Tensor) -> Tensor:
    """1 − k / L of each example, k the shortest prefix of its L tokens that count after which all are told rightly.

    Args:
        right_BT: whether the likeliest token is the true one, given the true tokens before it.
        targets_BT: −100 where a token does not count.
    """
    counted_BT = targets_BT != IGNORED
    prefix_B = (counted_BT.cumsum(dim=1) * (counted_BT & ~right_BT)).amax(dim=1)
    return 1 - prefix_B / counts(targets_BT)
