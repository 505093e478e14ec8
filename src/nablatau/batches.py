"""Examples and batches of any shape: tuples, dicts, dataclasses, or a bare tensor.

The one place that knows which part of an example is its target: the last entry of a tuple or list, or the
entry named like a target in a dict or dataclass. Everything else that must tell inputs from targets
(objectives, class requests, content hashes) asks here. Nothing else in the library looks inside a batch.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import default_collate

from nablatau.errors import ObjectiveError

Batch = Any
"""Whatever a data set yields, collated; only an objective looks inside."""

TARGET_NAMES = ("labels", "label", "targets", "target", "y")
"""Names under which a dict or a dataclass may hold its target, in the order of precedence."""
ALTERNATIVE = "alternative"
"""Name under which an example may hold a dict of its own form: the same question with an answer to give instead."""
IGNORED = -100
"""Label of tokens that do not count, as in torch and in Hugging Face's libraries."""


def fields_of(example: Batch) -> dict[str, Any] | None:
    """The named parts of a dict or dataclass, or None for anything else."""
    if isinstance(example, Mapping):
        return dict(example)
    if dataclasses.is_dataclass(example) and not isinstance(example, type):
        return {field.name: getattr(example, field.name) for field in dataclasses.fields(example)}
    return None


def target_name(names: Sequence[str]) -> str | None:
    """The name under which the target lies, or None if no known name is there."""
    return next((name for name in TARGET_NAMES if name in names), None)


def split_target(example: Batch) -> tuple[Any, Any]:
    """Inputs and target of an example or a batch; the target is None where none can be told apart.

    Args:
        example: a tuple or list (target last), a dict or dataclass (target under one of `TARGET_NAMES`), or
            a bare value, which is all input.

    Returns:
        (inputs, target): inputs as a tuple for tuples and lists, as a dict for dicts and dataclasses. A dict called
            "alternative" is in neither.
    """
    if type(example) is tuple and len(example) > 1:  # by far the most common, and asked for in every step
        return example[:-1], example[-1]
    named = fields_of(example)
    if named is not None:
        name = target_name(list(named))
        inputs = {key: value for key, value in named.items() if key != name and not _is_alternative(key, value)}
        return inputs, named.get(name) if name else None
    if isinstance(example, (tuple, list)) and len(example) > 1:  # named tuples and lists
        return tuple(example[:-1]), example[-1]
    return example, None


def alternative_of(example: Batch) -> Batch | None:
    """The same question with an answer to give instead, in the form of the example; None where it holds none."""
    held = (fields_of(example) or {}).get(ALTERNATIVE)
    return held if _is_alternative(ALTERNATIVE, held) else None


def _is_alternative(name: str, value: Any) -> bool:
    return name == ALTERNATIVE and isinstance(value, Mapping)


def collate(examples: Sequence[Batch]) -> Batch:
    """Stack examples to a batch as torch does, and dataclasses field by field.

    Args:
        examples: at least one example, all of the same form.

    Returns:
        A batch of the same form with one more, leading dimension.
    """
    first = examples[0]
    if dataclasses.is_dataclass(first) and not isinstance(first, type):
        columns = {f.name: collate([getattr(e, f.name) for e in examples]) for f in dataclasses.fields(first)}
        return dataclasses.replace(first, **columns)
    return default_collate(list(examples))


@dataclasses.dataclass(frozen=True)
class Padding:
    """Collates sequences of tokens of any length, which it fills up on the right.

    Labels are filled with −100, `input_ids` (or the first entry of a tuple) with `pad_id`, everything else of one
    dimension with 0. A dict of `input_ids` without an `attention_mask` gets one, 1 for its tokens and 0 for the
    filling; tuples get none, for a causal model sees nothing of what lies to the right.

    Attributes:
        pad_id: token to fill with.
    """

    pad_id: int = 0

    def __call__(self, examples: Sequence[Batch]) -> Batch:
        first = examples[0]
        named = [fields_of(example) for example in examples]
        if isinstance(first, (tuple, list)) and len(first) > 1:
            fills = [self.pad_id, *[0] * (len(first) - 2), IGNORED]
            return tuple(filled(column, fill) for column, fill in zip(zip(*examples, strict=True), fills, strict=True))
        if named[0] is None:
            return collate(examples)
        columns = self._columns([fields for fields in named if fields is not None])
        if isinstance(first, Mapping):
            return columns
        return dataclasses.replace(first, **{name: columns[name] for name in named[0]})

    def _columns(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        target = target_name(list(examples[0]))
        fills = {"input_ids": self.pad_id} | ({target: IGNORED} if target else {})
        columns: dict[str, Any] = {}
        for name in examples[0]:
            values = [example[name] for example in examples]
            held = _is_alternative(name, values[0])
            columns[name] = self._columns(values) if held else filled(values, fills.get(name, 0))
        if "input_ids" in columns and "attention_mask" not in columns:
            lengths_B = torch.tensor([len(example["input_ids"]) for example in examples])
            columns["attention_mask"] = (torch.arange(int(lengths_B.max())) < lengths_B[:, None]).long()
        return columns


def filled(values: Sequence[Any], fill: int) -> Any:
    """Sequences of numbers as the rows of one tensor, filled up on the right; anything else as torch collates it.

    Args:
        values: one an example: tensors or lists of one dimension, of any lengths, or anything else.
        fill: what stands behind the shorter ones.
    """
    tensors = [torch.as_tensor(value) if _are_numbers(value) else value for value in values]
    if all(isinstance(tensor, Tensor) and tensor.ndim == 1 for tensor in tensors):
        return pad_sequence(tensors, batch_first=True, padding_value=fill)
    return default_collate(list(values))


def _are_numbers(value: Any) -> bool:
    if isinstance(value, list):
        return not value or isinstance(value[0], (int, float))
    return isinstance(value, np.ndarray) and value.dtype.kind in "iufb"


def only_stacks(collate_fn: Callable[[Sequence[Any]], Batch]) -> bool:
    """Whether all that a collating function does to tuples of tensors, of one shape in each place, is to stack them."""
    return collate_fn is collate or isinstance(collate_fn, Padding)


def rows_of(batch: Batch, size: int, places: slice) -> Batch:
    """Some examples of a batch, as a batch of the same form.

    Args:
        batch: of tensors whose first dimension counts the examples.
        size: number of examples in it.
        places: which of them.

    Raises:
        ObjectiveError: the batch holds something else.
    """

    def some(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or len(tensor) != size:
            raise _uncut(f"a tensor of shape {tuple(tensor.shape)} for {size} examples")
        return tensor[places]

    def refuse(value: Any) -> Any:
        raise _uncut(f"a {type(value).__qualname__}")

    return map_tensors(batch, some, refuse)


def _uncut(found: str) -> ObjectiveError:
    return ObjectiveError(
        f"A batch holds {found}, so it cannot be cut into pieces that go forward one after another. Let `collate` make "
        "tensors whose first dimension counts the examples, or leave micro_batch_size out and take a smaller batch."
    )


def _as_it_is(value: Any) -> Any:
    return value


def map_tensors(
    batch: Batch, function: Callable[[Tensor], Tensor], otherwise: Callable[[Any], Any] = _as_it_is
) -> Batch:
    """The batch with `function` applied to every tensor in it, its form kept.

    Args:
        batch: a tensor, or tuples, lists, dicts and dataclasses of tensors.
        function: from tensor to tensor.
        otherwise: what becomes of other values; they stay as they are unless given.
    """
    if isinstance(batch, Tensor):
        return function(batch)
    if type(batch) is tuple:  # by far the most common
        return tuple([map_tensors(value, function, otherwise) for value in batch])
    if dataclasses.is_dataclass(batch) and not isinstance(batch, type):
        named = {f.name: map_tensors(getattr(batch, f.name), function, otherwise) for f in dataclasses.fields(batch)}
        return dataclasses.replace(batch, **named)
    if isinstance(batch, Mapping):
        mapped = {key: map_tensors(value, function, otherwise) for key, value in batch.items()}
        return mapped if type(batch) is dict else type(batch)(mapped)  # type: ignore[call-arg]
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*(map_tensors(value, function, otherwise) for value in batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(map_tensors(value, function, otherwise) for value in batch)
    return otherwise(batch)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its tensors on `device`; the same object where they already are."""
    if isinstance(batch, (tuple, list)) and all(isinstance(e, Tensor) and e.device == device for e in batch):
        return batch
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=True))
