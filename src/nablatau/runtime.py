"""Where and how training and evaluation run: device, precision, processes, randomness, progress.

Several processes are those that `torchrun` started (`torch.distributed`, one process a device). Every global
batch is cut into one piece a process, and means are taken over the global batch, so two processes compute
what one does. Nothing here is set by importing: a run that has not begun has changed nothing, and the
generators of torch, numpy and Python are as they were when it has ended.
"""

import contextlib
import copy
import itertools
import os
import random
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.distributed as distributed
from torch import Tensor, nn

from nablatau.errors import SettingsError

Item = TypeVar("Item")
Precision = Literal["fp32", "bf16", "fp16"]
AUTOCAST_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """How to run; none of it changes what is computed beyond rounding, but for `clip_norm`.

    Attributes:
        device: such as "cpu" or "cuda:1"; None takes the device the model lies on. Under torchrun with GPUs each
            process takes its own, whichever is named.
        precision: "fp32" computes in the model's own type; "bf16" and "fp16" autocast, fp16 with loss scaling.
        clip_norm: largest norm of the whole gradient; None for no clipping.
        micro_batch_size: examples of a step that go forward and backward at once, in each process, so that memory holds
            the activations of no more; the gradient is that of the whole batch. None for all at once.
        recompute_activations: keep only the inputs of a model's blocks for the backward pass, and compute what is
            inside once more (activation checkpointing, blocks.py).
        sharded: cut the model, its gradients and the optimizer's state into one share a process (FSDP2, sharding.py).
        share_frozen: let the unlearned model use the very memory of the given one's frozen parameters, which of a model
            with an adapter are nearly all, where the method moves no others. Neither model's may be changed in place
            afterwards, as `merge_and_unload` does: the other's would change too.
        workers: processes that read data beside the training, for data sets that read from disk.
        progress: show a progress bar; None shows it on a terminal only.
        evaluation_batch_size: examples in a forward pass without gradients.
    """

    device: str | None = None
    precision: Precision = "fp32"
    clip_norm: float | None = None
    micro_batch_size: int | None = None
    recompute_activations: bool = False
    sharded: bool = False
    share_frozen: bool = False
    workers: int = 0
    progress: bool | None = None
    evaluation_batch_size: int = 1024

    def __post_init__(self) -> None:
        if self.precision not in ("fp32", "bf16", "fp16"):
            raise SettingsError(f"precision must be 'fp32', 'bf16' or 'fp16', not {self.precision!r}.")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise SettingsError(f"clip_norm must be above 0, or None for no clipping, not {self.clip_norm!r}.")
        if self.micro_batch_size is not None and self.micro_batch_size < 1:
            raise SettingsError(
                f"micro_batch_size must be 1 or more, or None for the whole batch, not {self.micro_batch_size!r}."
            )
        if self.workers < 0:
            raise SettingsError(f"workers must be 0 or more, not {self.workers!r}.")
        if self.device is not None:
            check_device(self.device)
        if self.evaluation_batch_size < 1:
            raise SettingsError(f"evaluation_batch_size must be 1 or more, not {self.evaluation_batch_size!r}.")

    def device_for(self, model: nn.Module) -> torch.device:
        """The device to run on."""
        named = None if self.device is None else torch.device(self.device)
        if is_distributed() and (torch.cuda.is_available() if named is None else named.type == "cuda"):
            return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        return device_of(model) if named is None else named

    def autocast(self, device: torch.device) -> AbstractContextManager[Any]:
        """The context that forward passes run in."""
        if self.precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=AUTOCAST_TYPES[self.precision])

    def track(self, items: Iterable[Item], total: int, description: str) -> Iterable[Item]:
        """The same items, with a progress bar on standard error where one is wanted."""
        import sys

        shown = sys.stderr.isatty() if self.progress is None else self.progress
        if not shown or process_rank() != 0:
            return items
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True, force_terminal=self.progress)
        return track(items, description, total=total, console=console, transient=True)


def check_device(name: str) -> None:
    """Refuse a device that torch does not know or this machine does not have.

    Raises:
        SettingsError: naming it.
    """
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        first = str(error).splitlines()[0]
        raise SettingsError(f"device {name!r} cannot be used: {first} Such as 'cpu', 'cuda' or 'cuda:1'.") from error


def device_of(model: nn.Module) -> torch.device:
    """The device of a model's first parameter or buffer; the CPU if it has none."""
    tensors = itertools.chain(model.parameters(), model.buffers())
    return next((tensor.device for tensor in tensors), torch.device("cpu"))


def move(model: nn.Module, device: torch.device) -> nn.Module:
    """The model on `device`; a model that lies there already, or is spread over several devices, is left as it is."""
    devices = {tensor.device for tensor in itertools.chain(model.parameters(), model.buffers())}
    return model.to(device) if len(devices) == 1 and devices != {device} else model


def copied(model: nn.Module, *, shared: Iterable[nn.Parameter] = ()) -> nn.Module:
    """A deep copy of the model.

    Args:
        model: to copy.
        shared: parameters of it that keep their memory in common with the copy; device and flags of the two stay apart.

    Raises:
        SettingsError: it holds tensors that cannot be copied.
    """
    kept: dict[int, Any] = {
        id(each): nn.Parameter(each.detach(), requires_grad=each.requires_grad)
        for each in shared
        if type(each) is nn.Parameter
    }
    try:
        return copy.deepcopy(model, kept)
    except RuntimeError as error:
        raise SettingsError(
            f"The model cannot be copied, and it must not be changed: {str(error).splitlines()[0]} The old weight_norm "
            "and spectral_norm cause this: use those of torch.nn.utils.parametrizations, or remove them first."
        ) from error


# ---------------------------------------------------------------------- processes


def is_distributed() -> bool:
    """Whether this is one of several processes that work together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def process_rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if is_distributed() else 0


def process_count() -> int:
    """How many processes work together."""
    return distributed.get_world_size() if is_distributed() else 1


def sum_over_processes(tensor: Tensor) -> Tensor:
    """The sum of this tensor over all processes; the tensor itself where there is one."""
    if is_distributed():
        tensor = tensor.clone()
        distributed.all_reduce(tensor)
    return tensor


def gather_over_processes(value: Any) -> list[Any]:
    """The value of every process, in order of rank."""
    if not is_distributed():
        return [value]
    values: list[Any] = [None] * process_count()
    distributed.all_gather_object(values, value)
    return values


def dealt(items: Sequence[Item]) -> Sequence[Item]:
    """This process's part of some work: of n processes, every n-th item; all where there is one process."""
    return items[process_rank() :: process_count()]


def collected(found: dict[int, Item]) -> list[Item]:
    """What all processes found, in order of place, in every process.

    Args:
        found: of this one, by the places that were dealt to it.
    """
    every = {place: item for part in gather_over_processes(found) for place, item in part.items()}
    return [every[place] for place in sorted(every)]


# ---------------------------------------------------------------------- randomness


def random_generator(seed: int, stream: str) -> torch.Generator:
    """A CPU generator for one named use of randomness, independent of those for other uses and seeds.

    Args:
        seed: of the run.
        stream: name of the use, such as "forget batches".
    """
    if not (isinstance(seed, int) and seed >= 0):
        raise SettingsError(f"seed must be a whole number of 0 or more, not {seed!r}.")
    words = np.random.SeedSequence([seed, *stream.encode()]).generate_state(2, np.uint64)
    return torch.Generator().manual_seed(int(words[0]) % 2**63)


@contextlib.contextmanager
def isolated_randomness(seed: int, *, alike: bool = False) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python inside, and put them back as they were after.

    Dropout and the transforms in a user's data set draw from the global generators and take no other, so
    "same seed, same bits" needs them seeded for the time of the run; what the caller draws afterwards is
    what it would have drawn without the run.

    Args:
        seed: of the run.
        alike: every process draws the same numbers, those of the first, as fresh weights must be; else its own.
    """
    process = 0 if alike else process_rank()
    own_seed = int(random_generator(seed, f"process {process}").initial_seed()) % 2**32
    state_python, state_numpy = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(own_seed)
        random.seed(own_seed)
        np.random.seed(own_seed)
        try:
            yield
        finally:
            random.setstate(state_python)
            np.random.set_state(state_numpy)
