"""Content hashes: of records, to find copies of them, and of model weights, to name a model in a report.

A record's hash covers its inputs and not its target: a copy of a person's record under another label is
still that person's record, and an unseen record with trained-on inputs is not unseen.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from nablatau.batches import split_target
from nablatau.errors import RequestError

DIGEST_BYTES = 16


class Readable(Protocol):
    """A map-style data set: a length, and an example for each position from 0."""

    def __len__(self) -> int: ...

    def __getitem__(self, position: int, /) -> Any: ...


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


def record_digests(dataset: Readable) -> Iterator[bytes]:
    """The digest of each record's inputs, one record in memory at a time.

    Args:
        dataset: map-style data set of N examples.

    Yields:
        N digests of 16 bytes.

    Raises:
        RequestError: reading a record twice gives two contents, or a record has a part that cannot be hashed.
    """
    for position in range(min(len(dataset), 8)):
        if len({record_digest(dataset[position]) for _ in range(4)}) > 1:
            raise RequestError(
                f"Record {position} differs when it is read again, so the data set returns random transforms. Copies "
                "cannot be found in such data, and evidence on it would measure the transforms. Pass the data set "
                "without random transforms (put them into the training recipe), or "
                "TrainingData(..., check_content=False)."
            )
    for position in range(len(dataset)):
        yield record_digest(dataset[position])


def record_digest(example: Any) -> bytes:
    """The digest of one example's inputs: equal digests mean equal values, types and shapes."""
    state = hashlib.blake2b(digest_size=DIGEST_BYTES)
    inputs, _ = split_target(example)
    _update(state, inputs)
    return state.digest()


def _update(state: _Hash, value: Any) -> None:
    """Feed one value of any supported form into the hash, with its type and shape."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().contiguous()
        value = value.view(torch.uint8) if value.dtype is torch.bfloat16 else value
        _update(state, value.numpy())
    elif isinstance(value, np.ndarray) and value.dtype == object:
        _update_all(state, f"{value.shape}", value.ravel().tolist())
    elif isinstance(value, np.ndarray):
        state.update(f"{value.dtype.str}{value.shape}".encode())
        state.update(np.ascontiguousarray(value).tobytes())
    elif isinstance(value, Mapping):
        _update_all(state, "{", (part for key in sorted(value, key=str) for part in (key, value[key])))
    elif isinstance(value, (tuple, list)):
        _update_all(state, f"({len(value)}", value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        _update_all(state, "{", (getattr(value, field.name) for field in dataclasses.fields(value)))
    elif value is None or isinstance(value, (str, bytes, bool, int, float, complex, np.generic)):
        state.update(f"{type(value).__name__}:{value!r};".encode())
    elif hasattr(value, "tobytes") and hasattr(value, "size"):  # a PIL image
        state.update(f"{value.size}".encode() + value.tobytes())
    else:
        raise RequestError(
            f"A record holds a {type(value).__qualname__}, of which no content hash can be taken, so copies of "
            "records cannot be found. Let the data set return tensors, arrays, numbers, strings or images, or "
            "pass TrainingData(..., check_content=False) and check for copies yourself."
        )


def _update_all(state: _Hash, opening: str, parts: Iterable[Any]) -> None:
    state.update(opening.encode())
    for part in parts:
        _update(state, part)


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's state, in hexadecimal: names, types, shapes and bytes of all tensors.

    Args:
        model: any module; its tensors may lie on any device.
    """
    state = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if not isinstance(tensor, Tensor):  # a layer's extra state, of any form
            state.update(f"{name}{tensor!r}".encode())
            continue
        state.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        state.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return state.hexdigest()
