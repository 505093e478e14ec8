"""Packed batches: texts behind one another in the rows that a model is given, so that no time goes into filling.

A batch stays as `batches.Padding` makes it, a text a row. On its way into the model it is packed, and what the model
says of each token goes back to the text's own place, so that everything else sees a batch like any other. Rows are as
wide as the longest text, and the others are laid into them longest first, each into the first row that has room
(first-fit decreasing; Johnson 1973): never more tokens than with filling, and attention never over longer rows.

Positions begin at 0 with each text and no attention mask is given: that is how Hugging Face's models (transformers 5)
are told that a text must not see the one before it. Not every model listens: a state that runs through the row, as
Mamba's, a mask made from something else, or code from elsewhere. A text would then be read with a stranger's before it,
and nothing would fail. So each model is asked, before its first batch, about three short texts: what it says of one
must not move with the words of those before it in the row, and be what it says of the text alone. Flash attention keeps
texts apart in a single row alone, and is found to by the same question.

Where all agrees, logits are those of a padded batch but for rounding.

Shapes: B texts of at most T tokens in a batch, R rows of width W, V words.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from nablatau import tokens
from nablatau.batches import IGNORED, Batch, fields_of, split_target
from nablatau.errors import ObjectiveError
from nablatau.modes import in_mode

Ask = Callable[[nn.Module, Batch], Tensor]
"""From model and packed batch to logits_RWV."""

TRIAL = (8, 4, 4)
"""Tokens of the texts that a model is tried with: in rows of the longest the third stands behind the second."""
_IN_ONE_ROW: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
"""Models that keep packed texts apart, and whether in a single row alone; kept as long as the models live."""


def first_fit(lengths: Sequence[int], width: int) -> tuple[list[int], list[int]]:
    """Where each text goes: its row, and its first place in it. Longest first, each into the first row with room.

    Args:
        lengths: B numbers of tokens.
        width: of a row, no less than the longest text.
    """
    rows, starts = [0] * len(lengths), [0] * len(lengths)
    taken: list[int] = []
    for text in sorted(range(len(lengths)), key=lambda text: -lengths[text]):
        row = next((row for row, used in enumerate(taken) if used + lengths[text] <= width), len(taken))
        if row == len(taken):
            taken.append(0)
        rows[text], starts[text] = row, taken[row]
        taken[row] += lengths[text]
    return rows, starts


@dataclass(frozen=True)
class Layout:
    """Which token of a batch stands where in the rows.

    Attributes:
        places_BT: place of each token among the R · W of the rows; 0 for filling.
        sources_RW: place of each among the B · T of the batch; −1 where a row has room left.
        positions_RW: of each token in its text; what room is left counts as a text of its own.
    """

    places_BT: Tensor
    sources_RW: Tensor
    positions_RW: Tensor

    def packed(self, values_BT: Tensor, fill: int | None = None) -> Tensor:
        """One value a token, laid out as the rows are.

        Args:
            values_BT: as the batch is laid out.
            fill: where a row has room left; any of the values unless given.
        """
        values_RW = values_BT.flatten()[self.sources_RW.clamp(min=0)]
        return values_RW if fill is None else values_RW.masked_fill(self.sources_RW < 0, fill)

    def unpacked(self, values_RW: Tensor) -> Tensor:
        """(R, W, …) laid out as the batch is, (B, T, …); at filling stands the value of some token."""
        return values_RW.flatten(0, 1)[self.places_BT]


def layout(mask_BT: Tensor, *, in_one_row: bool = False) -> Layout:
    """How the texts of a batch are packed.

    Args:
        mask_BT: 1 for a token, 0 for filling, which is on the right.
        in_one_row: all of them in a single row.

    Raises:
        ObjectiveError: filling on the left, or a text without a token.
    """
    lengths_B = mask_BT.sum(dim=1)
    inside_BT = torch.arange(mask_BT.shape[1], device=mask_BT.device) < lengths_B[:, None]
    if not (torch.equal(inside_BT, mask_BT.bool()) and lengths_B.all()):
        raise ObjectiveError(
            "A batch that is to be packed has filling before a text's first token, or a text without any. Fill texts "
            "up on the right (batches.Padding does), and leave empty ones out."
        )
    lengths: list[int] = lengths_B.tolist()
    width = sum(lengths) if in_one_row else max(lengths)
    rows, starts = first_fit(lengths, width)
    count = (max(rows) + 1) * width
    steps_T = torch.arange(mask_BT.shape[1], device=mask_BT.device)
    firsts_B = torch.tensor([row * width + start for row, start in zip(rows, starts, strict=True)]).to(mask_BT.device)
    places_BT = firsts_B[:, None] + steps_T
    slots = torch.where(inside_BT, places_BT, count).flatten()  # what is filling falls into one more, cut off below
    sources = torch.full((count + 1,), -1, device=mask_BT.device)
    sources[slots] = torch.arange(mask_BT.numel(), device=mask_BT.device)
    used_R = [0] * (max(rows) + 1)
    for row, length in zip(rows, lengths, strict=True):
        used_R[row] += length
    room_RW = torch.arange(width)[None] - torch.tensor(used_R)[:, None]
    positions = torch.cat([room_RW.flatten(), torch.zeros(1, dtype=torch.int64)]).to(mask_BT.device)
    positions[slots] = steps_T.expand_as(mask_BT).flatten()
    return Layout(
        torch.where(inside_BT, places_BT, 0),
        sources[:count].view(-1, width),
        positions[:count].view(-1, width),
    )


# ---------------------------------------------------------------------- asking a model


def ask_packed(model: nn.Module, batch: Batch, ask: Ask) -> tuple[Tensor, Layout]:
    """What a model says of a batch, packed: logits_RWV and where they belong.

    Args:
        model: that keeps packed texts apart, which is tried once.
        batch: padded on the right: a dict or dataclass with input_ids_BT, attention_mask_BT, and nothing else but
            tensors of that shape.
        ask: how it is asked.

    Raises:
        ObjectiveError: a batch that cannot be packed, or a model that mixes texts up.
    """
    inputs = _inputs(batch)
    mask_BT = inputs.pop("attention_mask")
    where = layout(mask_BT, in_one_row=keeps_apart_in_one_row(model, inputs["input_ids"], ask))
    return ask(model, _packed_inputs(inputs, where)), where


def unpacked_outputs(model: nn.Module, batch: Batch, ask: Ask) -> Tensor:
    """What a model says of a packed batch, laid out as the batch is: logits_BTV; at filling stands anything.

    Args, errors: as of `ask_packed`.
    """
    logits_RWV, where = ask_packed(model, batch, ask)
    return where.unpacked(logits_RWV)


def token_losses(model: nn.Module, batch: Batch, targets_BT: Tensor, ask: Ask) -> Tensor:
    """−log softmax(z)_y of each token, in nats, losses_BT; the logits are not laid out anew, for they are large.

    Args:
        model, batch, ask: as of `ask_packed`.
        targets_BT: what each position is to tell; −100 where that does not count.
    """
    logits_RWV, where = ask_packed(model, batch, ask)
    return where.unpacked(
        tokens.of_tokens(tokens.cross_entropy_rows, logits_RWV, where.packed(targets_BT, fill=IGNORED))
    )


def unpacked_activations(model: nn.Module, batch: Batch, values: Tensor) -> Tensor:
    """What one of a model's modules put out when it was asked for this batch packed, as the batch is laid out.

    Args:
        model: that was asked.
        batch: likewise.
        values: (R, W, …).
    """
    where = layout(_inputs(batch)["attention_mask"], in_one_row=_IN_ONE_ROW[model])
    return where.unpacked(values)


def _inputs(batch: Batch) -> dict[str, Tensor]:
    """The inputs of a padded batch, by name.

    Raises:
        ObjectiveError: they cannot be packed.
    """
    inputs = split_target(batch)[0] if fields_of(batch) is not None else {}
    mask = inputs.get("attention_mask")
    if "input_ids" not in inputs or not isinstance(mask, Tensor) or mask.ndim != 2:
        raise ObjectiveError(
            "Packed batches are made of dicts with input_ids and an attention_mask of shape (B, T), as batches.Padding "
            f"makes them of dicts with input_ids; this batch is a {type(batch).__qualname__} of "
            f"{sorted(inputs) or 'no names'}. Yield such dicts, or leave packed=True out."
        )
    other = [name for name, value in inputs.items() if not isinstance(value, Tensor) or value.shape != mask.shape]
    if other:
        raise ObjectiveError(
            f"A batch with {', '.join(other)} cannot be packed: beside the labels, each entry must be a tensor with "
            "one number a token. Leave these out, or packed=True."
        )
    return dict(inputs)


def _packed_inputs(inputs: Mapping[str, Tensor], where: Layout) -> dict[str, Any]:
    rows = {name: where.packed(values_BT) for name, values_BT in inputs.items()}
    return rows | {"position_ids": where.positions_RW, "use_cache": False}  # with a cache texts are not told apart


def keeps_apart_in_one_row(model: nn.Module, input_ids: Tensor, ask: Ask) -> bool:
    """Whether a model keeps packed texts apart in a single row alone; False if in several rows too.

    It is tried once a model, in eval mode, with what `TRIAL` says.

    Args:
        model: that is to be asked.
        input_ids: (B, T), such as it knows.
        ask: how it is asked.

    Raises:
        ObjectiveError: it does neither, or takes no positions.
    """
    if model not in _IN_ONE_ROW:
        _IN_ONE_ROW[model] = _tried(model, input_ids, ask)
    return _IN_ONE_ROW[model]


def _tried(model: nn.Module, input_ids: Tensor, ask: Ask) -> bool:
    device, words = input_ids.device, _words(model, input_ids)
    steps_T = torch.arange(TRIAL[0], device=device)
    mask_BT = (steps_T < torch.tensor(TRIAL, device=device)[:, None]).long()
    ids_BT = torch.randint(words, mask_BT.shape, generator=torch.Generator().manual_seed(0)).to(device)
    with in_mode(model, "eval"), torch.no_grad():
        alone_BTV = ask(model, {"input_ids": ids_BT, "attention_mask": mask_BT})
        size = alone_BTV.abs().max().item()
        for in_one_row in (False, True):
            where = layout(mask_BT, in_one_row=in_one_row)
            behind_BT = (where.places_BT % where.positions_RW.shape[1] != steps_T) & mask_BT.bool()
            other_BT = torch.where(behind_BT, ids_BT, (ids_BT + 1) % words)
            try:
                found, beside = (
                    where.unpacked(ask(model, _packed_inputs({"input_ids": each}, where)))[behind_BT]
                    for each in (ids_BT, other_BT)
                )
            except TypeError as error:
                raise ObjectiveError(
                    f"{type(model).__qualname__} cannot be given packed texts: {error}. It must take position_ids and "
                    "use_cache, as Hugging Face's causal language models do. Leave packed (--packed) out."
                ) from error
            leak, off = ((found - each).abs().max().item() for each in (beside, alone_BTV[behind_BT]))
            if words > 1 and leak <= 1e-6 * size and off <= torch.finfo(found.dtype).eps ** 0.5 * size:
                return in_one_row
    raise ObjectiveError(
        f"{type(model).__qualname__} does not keep packed texts apart: a text's logits, up to {size:.2g}, change by "
        f"{leak:.2g} with the words of the one before it in the row, and differ by {off:.2g} from those it has alone. "
        "Leave packed (--packed) out; padded batches are right for every model."
    )


def _words(model: nn.Module, input_ids: Tensor) -> int:
    """How many words a model knows; those up to the largest of these, where it does not say."""
    embedding = getattr(model, "get_input_embeddings", lambda: None)()
    return int(getattr(embedding, "num_embeddings", int(input_ids.max()) + 1))
