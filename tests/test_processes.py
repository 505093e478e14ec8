"""Two processes (gloo) compute what one does: training, methods with steps and without, τ, scores and evidence."""

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
import nablatau
from nablatau import Objective, Recipe, Runtime, TrainingData
from nablatau.recipes import train
from nablatau.records import Records
from nablatau.recovery import relearn
from small import random_set, small_network
from small_runs import SETTINGS, run_all

torch.set_num_threads(1)
if "RANK" in os.environ:
    distributed.init_process_group("gloo")
found = run_all(Runtime(), SETTINGS)
found["in pieces"] = run_all(Runtime(micro_batch_size=2), ["nabla_tau", "nabla_tau_paper", "npo"])

wide, objective = torch.float64, Objective.classification()
request = TrainingData(random_set(61, 1, wide), random_set(41, 2, wide)).forget_fraction(0.3, seed=1)
drawn = lambda: small_network(seed=torch.initial_seed() % 1000, dtype=wide)
recipe = Recipe(epochs=2, learning_rate=0.1, batch_size=15, build=drawn)
original = train(recipe, Records.all_of(random_set(61, 1, wide)), objective, seed=0)
done = nablatau.forget(original, request, objective, method=nablatau.Finetune(batch_size=15))

def evidence(sharded, **more):
    runtime = Runtime(sharded=sharded)
    made = nablatau.evaluate(original, done, request, objective, recipe=recipe, shadows=6, runtime=runtime, **more)
    arrays = dict(made.evidence.arrays)
    for model, splits in made.evidence.scores.items():
        arrays |= {f"{model} {split} {name}": each for split in splits for name, each in splits[split].arrays.items()}
    return {name: torch.as_tensor(each).double().nan_to_num(-1e3) for name, each in arrays.items() if each.size}

several = "RANK" in os.environ
found["evidence"] = evidence(False, swap=True)
found["evidence of shares"] = evidence(several, recovery=False)
again = relearn({"original": original}, request, objective, recipe=recipe, seeds=(0, 1), steps=(0, 1, 5))
found["evidence"] |= {f"relearning {name}": torch.as_tensor(losses) for name, losses in again.losses.items()}
if int(os.environ.get("RANK", 0)) == 0:
    torch.save(found, sys.argv[2])
if distributed.is_initialized():
    distributed.barrier()
    distributed.destroy_process_group()
"""


@pytest.mark.timeout(600)  # thirty methods and every kind of evidence, in one process and in two
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    one, two = (torch.load(run_script(SCRIPT, tmp_path, count), weights_only=True) for count in (1, 2))
    parts = [(one.pop(part), two.pop(part)) for part in ("in pieces", "evidence", "evidence of shares")]
    for first, second in [(one, two), *parts]:
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
