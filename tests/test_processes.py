"""Two processes (gloo) compute what one does: training, methods with steps and without, τ, and scores."""

from pathlib import Path

import pytest
import torch

from launching import run_script
from small import random_set, small_network
from small_runs import farthest

SCRIPT = """
import os, sys
import torch, torch.distributed as distributed
sys.path.insert(0, sys.argv[1])
from nablatau import Runtime
from small_runs import SETTINGS, run_all

torch.set_num_threads(1)
if "RANK" in os.environ:
    distributed.init_process_group("gloo")
found = run_all(Runtime(), SETTINGS)
found["in pieces"] = run_all(Runtime(micro_batch_size=2), ["nabla_tau", "nabla_tau_paper", "npo"])
if int(os.environ.get("RANK", 0)) == 0:
    torch.save(found, sys.argv[2])
if distributed.is_initialized():
    distributed.barrier()
    distributed.destroy_process_group()
"""


@pytest.mark.timeout(600)  # thirty methods, in one process and in two
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    one, two = (torch.load(run_script(SCRIPT, tmp_path, count), weights_only=True) for count in (1, 2))
    for first, second in ((one, two), (one.pop("in pieces"), two.pop("in pieces"))):
        far, where = farthest(first, second)
        assert far < 1e-6, where
    hinged = (one["nabla_tau_paper tau"] > one["nabla_tau_paper forget_loss"]).double().mean()
    assert 0 < hinged < 1  # both sides of the hinge were taken, so a mean of hinges is told from a hinge of means


def test_the_hinge_of_a_piece_is_not_the_hinge_of_the_whole() -> None:
    """Why means go over processes before the hinge: otherwise two pieces give another gradient than the whole."""
    model, (inputs, labels) = small_network(), random_set(8, 3).tensors
    losses = torch.nn.functional.cross_entropy(model(inputs), labels, reduction="none")
    tau = losses.mean().item()
    whole = torch.relu(tau + 0.01 - losses.mean()) ** 2
    pieces = torch.stack([torch.relu(tau + 0.01 - part.mean()) ** 2 for part in losses.split(4)]).mean()
    assert not torch.isclose(whole, pieces)
