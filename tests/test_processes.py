"""Two processes (gloo) compute what one does: training, methods with steps and without, τ, and scores."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from small import random_set, small_network

SCRIPT = """
import os, sys
import numpy as np, torch, torch.distributed as distributed
sys.path.insert(0, sys.argv[1])
from small import random_set, random_texts, small_convolutional, small_network, small_transformer
from nablatau import Objective, Recipe, TrainingData
from nablatau.methods import METHODS
from nablatau.records import Records
from nablatau.recipes import train
from nablatau.runtime import Runtime
from nablatau.scoring import score

torch.set_num_threads(1)
if "RANK" in os.environ:
    distributed.init_process_group("gloo")
wide = torch.float64
request = TrainingData(random_set(61, 1, wide), random_set(31, 2, wide)).forget_fraction(0.25, seed=1)
objective, model = Objective.classification(), small_network(seed=4, dtype=wide)
found = {}
recipe = Recipe(epochs=2, learning_rate=0.1, batch_size=5, build=lambda: small_network(seed=4, dtype=wide))
of_class = TrainingData(random_set(61, 1, wide), random_set(31, 2, wide)).forget_class(1)
settings = {
    "nabla_tau": {"batch_size": 5, "least_records": 100},
    "nabla_tau_paper": {"batch_size": 5, "alpha": 0.9, "learning_rate": 1e-2},
    "finetune": {"batch_size": 5},
    "neg_grad": {"batch_size": 5},
    "neg_grad_plus": {"retain_batch_size": 5, "forget_batch_size": 3, "epochs": 2},
    "scrub": {"retain_batch_size": 5, "forget_batch_size": 3},
    "scrub_r": {"retain_batch_size": 5, "forget_batch_size": 3},
    "bad_teacher": {"batch_size": 5},
    "amnesiac": {"epochs": 2, "batch_size": 5},
    "salun": {"epochs": 2, "batch_size": 5},
    "l1_sparse": {"epochs": 2, "batch_size": 5},
    "boundary_shrink": {"epochs": 2, "batch_size": 7, "learning_rate": 1e-2},
    "amun": {"epochs": 2, "batch_size": 5},
    "ssd": {},
    "fisher": {},
    "influence": {"batch_size": 5},
    "cf_k": {"layers": 1, "epochs": 2, "batch_size": 5},
    "eu_k": {"layers": 1},
    "msg": {"epochs": 2, "batch_size": 5},
    "ct": {"epochs": 2, "batch_size": 5},
    "unsir": {"noise_count": 5, "noise_steps": 3, "batch_size": 5},
    "sisa": {"shards": 2, "slices": 2},
    "grad_ascent": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "grad_diff": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "sim_npo": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "task_vector": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "npo": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "rmu": {"steps": 3, "batch_size": 5, "learning_rate": 1e-2},
    "idk_dpo": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2},
    "undial": {"epochs": 2, "batch_size": 5, "learning_rate": 1e-2, "retain_weight": 1.0},
}
starts, requests = {"ct": small_convolutional(seed=4, dtype=wide)}, {"unsir": of_class}
on_texts = ("npo", "rmu", "idk_dpo", "undial")
starts |= dict.fromkeys(on_texts, small_transformer(seed=4, dtype=wide))
requests |= dict.fromkeys(on_texts, TrainingData(random_texts(31, 1), random_texts(9, 2)).forget_fraction(0.4, seed=1))
for name, chosen in settings.items():
    start, asked = starts.get(name, model), requests.get(name, request)
    known = recipe if "recipe" in METHODS[name].needs else None
    losses = Objective.causal_lm() if name in on_texts else objective
    done = METHODS[name](**chosen).unlearn(start, asked, losses, seed=2, recipe=known)
    found[name] = torch.nn.utils.parameters_to_vector(done.model.parameters()).detach()
    recorded = {"loss", "retain_loss", "forget_loss", "forget_term", "tau", "heat", "shortfall"}
    for column in recorded & done.history.columns.keys():
        found[f"{name} {column}"] = torch.tensor(done.history.columns[column])
    found[f"{name} samples"] = torch.tensor([done.history.trained_samples, done.history.scored_samples])
trained = train(recipe, Records.all_of(random_set(61, 1, wide)), objective, seed=0)
found["train"] = torch.nn.utils.parameters_to_vector(trained.parameters()).detach()
found["scores"] = torch.tensor(score(trained, request.retain_set, objective, Runtime(evaluation_batch_size=7))["loss"])
if int(os.environ.get("RANK", 0)) == 0:
    torch.save(found, sys.argv[2])
if distributed.is_initialized():
    distributed.barrier()
    distributed.destroy_process_group()
"""


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@pytest.mark.timeout(600)  # thirty methods, in one process and in two
def test_two_processes_compute_what_one_does(tmp_path: Path) -> None:
    script = tmp_path / "run.py"
    script.write_text(SCRIPT)
    outputs = [tmp_path / "one.pt", tmp_path / "two.pt"]
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    for output, start in zip(outputs, ([], launcher), strict=True):
        command = [sys.executable, *start, str(script), str(Path(__file__).parent), str(output)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr[-3000:]
    one, two = (torch.load(output, weights_only=True) for output in outputs)
    assert one.keys() == two.keys()
    for name in one:
        assert torch.allclose(one[name].double(), two[name].double(), rtol=0, atol=1e-6), name
    hinged = (one["nabla_tau_paper tau"] > one["nabla_tau_paper forget_loss"]).double().mean()
    assert (
        0 < hinged < 1
    )  # both sides of the hinge were taken, so the test can tell a mean of hinges from a hinge of means


def test_the_hinge_of_a_piece_is_not_the_hinge_of_the_whole() -> None:
    """Why means go over processes before the hinge: otherwise two pieces give another gradient than the whole."""
    model, (inputs, labels) = small_network(), random_set(8, 3).tensors
    losses = torch.nn.functional.cross_entropy(model(inputs), labels, reduction="none")
    tau = losses.mean().item()
    whole = torch.relu(tau + 0.01 - losses.mean()) ** 2
    pieces = torch.stack([torch.relu(tau + 0.01 - part.mean()) ** 2 for part in losses.split(4)]).mean()
    assert not torch.isclose(whole, pieces)
