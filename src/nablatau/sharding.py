"""Sharding: a model, its gradients and the optimizer's state cut into one share a process (FSDP2, `fully_shard`).

Each parameter is cut along its first dimension. A block (blocks.py) is put together while it computes, and taken apart
again; what lies in no block is one more unit, together as long as a step lasts. Source: Zhao et al., "PyTorch FSDP",
VLDB 2023, arXiv 2304.11277, in the form of `torch.distributed.fsdp.fully_shard`.

A sharded model takes the same steps as a whole one; a number taken from a weight's own share would be another in every
process. `lengths` is for such numbers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from nablatau.blocks import blocks_of
from nablatau.errors import SettingsError
from nablatau.runtime import copied, is_distributed, process_count, sum_over_processes


def is_sharded(model: nn.Module) -> bool:
    """Whether each process holds a share of the model's weights alone."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def shard(model: nn.Module, device: torch.device) -> nn.Module:
    """A copy of the model, each weight on `device` and cut into one share a process.

    Shares are cut out of the given model's own weights, and move block by block: neither the host nor a device ever
    holds another whole copy.

    Args:
        model: the same in every process; it stays as it is.
        device: of this process.

    Raises:
        SettingsError: this is one process alone, or weights of one block are trained in several types.
    """
    if not is_distributed():
        raise SettingsError(
            "sharded cuts a model into one share a process, and this is one process alone. Start several, with "
            "`torchrun --nproc-per-node 2 …`, or leave the setting out."
        )
    cut = copied(model, shared=model.parameters())
    blocks = blocks_of(cut)
    _refuse_several_types(cut, blocks)
    mesh = init_device_mesh(device.type, (process_count(),))
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(cut, mesh=mesh, reshard_after_forward=True)  # else a look after a look would see old weights
    return cut


def _refuse_several_types(model: nn.Module, blocks: Sequence[nn.Module]) -> None:
    """Gradients of a block travel in one message, and so must be of one type; frozen weights have none."""
    inside = {id(parameter) for block in blocks for parameter in block.parameters()}
    units = [block.parameters() for block in blocks]
    for unit in [*units, (each for each in model.parameters() if id(each) not in inside)]:
        types = {str(parameter.dtype) for parameter in unit if parameter.requires_grad}
        if len(types) > 1:
            raise SettingsError(
                f"sharded sends the gradients of a block in one message, and here they are of {len(types)} types "
                f"({', '.join(sorted(types))}). Let all weights that are trained be of one, model.float(), or leave "
                "the setting out; frozen ones may be of any."
            )


def put_together(model: nn.Module, whole: nn.Module) -> nn.Module:
    """An ordinary model with the weights of a sharded one, in every process; weights travel one by one.

    Args:
        model: sharded.
        whole: of the same architecture, to be changed in place; its device stays. Beside it one weight at a time is
            whole.
    """
    state, own = model.state_dict(), dict(whole.named_parameters(remove_duplicate=False))
    for name in state:
        if isinstance(state[name], DTensor):
            state[name] = own[name].detach().copy_(state[name].full_tensor())
    whole.load_state_dict(state)  # buffers and extra states; of each weight, that it is there
    return whole


def lengths(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The Frobenius norm of each tensor, of a sharded one over all its shares; every process gets the same.

    Args:
        tensors: of any shapes; what is told of the shares travels in one message.
    """
    found = [torch.linalg.vector_norm(own_share(tensor)) for tensor in tensors]
    cut = [place for place, tensor in enumerate(tensors) if isinstance(tensor, DTensor)]
    if cut:
        squares = sum_over_processes(torch.stack([found[place].double().square() for place in cut]))
        for place, length in zip(cut, squares.sqrt(), strict=True):
            found[place] = length.to(found[place].dtype)
    return found


def own_share(tensor: Tensor) -> Tensor:
    """What of a tensor lies in this process: its share of a sharded one, which may be empty, else all of it."""
    tensor = tensor.detach()
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
