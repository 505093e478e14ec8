"""A model cut into shares over two processes (gloo) computes what a whole one does, and holds half."""

from pathlib import Path

import pytest
import torch
from torch import nn

from launching import run_script
from nablatau import Objective, Runtime, TrainingData
from nablatau.errors import SettingsError
from nablatau.methods import METHODS
from small import random_set, small_network
from small_runs import farthest

SCRIPT = """
import os, resource, sys
import torch, torch.distributed as distributed, transformers
sys.path.insert(0, sys.argv[1])
from torch import nn
from nablatau import NablaTau, Objective, PublishedNablaTau, Runtime, TrainingData
from nablatau.runtime import copied
from nablatau.methods.heat import length_keeper, root_mean_square, turning_optimizer
from nablatau.sharding import is_sharded, lengths, own_share, put_together, shard
from nablatau.fingerprints import weights_digest
from small import random_texts, small_transformer
from small_runs import run_all

torch.set_num_threads(1)
several, wide = "RANK" in os.environ, torch.float64
if several:
    distributed.init_process_group("gloo")
cpu = torch.device("cpu")

def peak():
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def deep(width):
    torch.manual_seed(1)
    model = nn.Module()
    model.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(40))
    return model

if several:  # before all else, as a peak never falls
    put_together(shard(deep(8), cpu), deep(8))  # what is loaded on first use has its own
    given = deep(1024)
    size = 4 * sum(each.numel() for each in given.parameters())
    before = peak()
    cut = shard(given, cpu)
    assert peak() - before < 0.65 * size, "cutting a model makes a second whole one"
    result = copied(given)
    before = peak()
    put_together(cut, result)
    assert peak() - before < 0.5 * size, "putting it together makes another whole one"
    assert all(torch.equal(*pair) for pair in zip(given.parameters(), result.parameters(), strict=True))
    del given, cut, result

names = ("nabla_tau", "nabla_tau_paper", "finetune", "neg_grad", "neg_grad_plus", "grad_ascent", "grad_diff", "sim_npo",
         "npo")
found = {"methods": run_all(Runtime(sharded=several), names, of_texts=names)}
found["memory saved"] = run_all(
    Runtime(sharded=several, micro_batch_size=2, recompute_activations=True), names[:2], of_texts=names, trained=False
)
found["clipped"] = run_all(Runtime(sharded=several, clip_norm=0.05), names[:2], of_texts=names, trained=False)

config = transformers.LlamaConfig(
    vocab_size=25, hidden_size=18, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
    intermediate_size=31, max_position_embeddings=24, tie_word_embeddings=True, pad_token_id=0,
)
torch.manual_seed(5)
llama = transformers.LlamaForCausalLM(config).to(wide).eval()
before = weights_digest(llama)
request = TrainingData(random_texts(31, 1), random_texts(9, 2)).forget_fraction(0.4, seed=1)
found["llama"] = {}
for method in (NablaTau(batch_size=5, least_records=100), PublishedNablaTau(batch_size=5, learning_rate=1e-3)):
    done = method.unlearn(llama, request, Objective.causal_lm(), seed=2, runtime=Runtime(sharded=several))
    assert type(done.model) is transformers.LlamaForCausalLM and not is_sharded(done.model)
    assert done.model.lm_head.weight is done.model.model.embed_tokens.weight
    found["llama"] |= {f"{method.name} {name}": value for name, value in done.model.state_dict().items()}
assert weights_digest(llama) == before

failing = NablaTau(batch_size=5, least_records=50, turn=1e300, keep_lengths=False)  # no number: back to where it was
done = failing.unlearn(llama, request, Objective.causal_lm(), seed=2, runtime=Runtime(sharded=several))
assert "AS IT WAS" in done.history.notes[-1], done.history.notes
assert weights_digest(done.model) == before

model = small_transformer(seed=4, dtype=wide)
model.odd = nn.Linear(5, 1, bias=False).to(wide)  # one row: one of two processes holds none of it
with torch.no_grad():
    model.odd.weight.fill_(0.3)
whole = small_transformer(seed=4, dtype=wide)
whole.odd = nn.Linear(5, 1, bias=False).to(wide)
if several:
    given, kept = model, weights_digest(model)
    model = shard(given, cpu)
    assert not is_sharded(given) and weights_digest(given) == kept
    held = sum(own_share(each).numel() for each in model.parameters())
    assert held <= 0.6 * sum(each.numel() for each in model.parameters())
matrices = [each for each in model.parameters() if each.ndim > 1]
found["heat"] = {"lengths": torch.stack(lengths(matrices)), "sizes": torch.tensor([*map(root_mean_square, matrices)])}
optimizer = turning_optimizer(model, keep_lengths=True)
found["heat"]["scales"] = torch.tensor(
    [next(g["scale"] for g in optimizer.param_groups if any(p is each for p in g["params"])) for each in matrices]
)
data = {"input_ids": torch.randint(2, 24, (4, 9), generator=torch.Generator().manual_seed(1))}
for _ in range(3):
    optimizer.zero_grad()
    model(**data).square().mean().backward()
    for group in optimizer.param_groups:
        group["lr"] = 0.1 * group["scale"]
    optimizer.step()
if several:
    state = [each["exp_avg"] for each in optimizer.state.values()]
    assert sum(own_share(each).numel() for each in state) <= 0.6 * sum(each.numel() for each in state)
    put_together(model, whole)
else:
    whole = model
found["heat"] |= {f"after {name}": value for name, value in whole.state_dict().items()}
found["heat"]["lengths after"] = torch.stack([torch.linalg.vector_norm(w) for w in whole.parameters() if w.ndim > 1])
if int(os.environ.get("RANK", 0)) == 0:
    torch.save(found, sys.argv[2])
if several:
    distributed.barrier()
    distributed.destroy_process_group()
"""


@pytest.mark.timeout(600)
def test_two_processes_with_shares_compute_what_one_with_all_does(tmp_path: Path) -> None:
    one, two = (torch.load(run_script(SCRIPT, tmp_path, count), weights_only=True) for count in (1, 2))
    assert one.keys() == two.keys()
    for part in one:
        far, where = farthest(one[part], two[part])
        assert far < 1e-6, (part, where)
    for each in (one, two):
        heat = each["heat"]
        assert torch.allclose(heat["lengths"], heat["lengths after"], rtol=1e-12, atol=0)


def test_one_process_alone_is_refused() -> None:
    request = TrainingData(random_set(90, 1), random_set(40, 2)).forget_fraction(0.1)
    with pytest.raises(SettingsError, match="sharded cuts a model into one share a process, and this is one process"):
        METHODS["finetune"]().unlearn(
            small_network(), request, Objective.classification(), runtime=Runtime(sharded=True)
        )


def test_methods_that_look_at_whole_weights_are_refused() -> None:
    request, model = TrainingData(random_set(90, 1), random_set(40, 2)).forget_fraction(0.1), small_network()
    before = nn.utils.parameters_to_vector(model.parameters())
    with pytest.raises(SettingsError, match="ssd works on a model's weights as wholes"):
        METHODS["ssd"]().unlearn(model, request, Objective.classification(), runtime=Runtime(sharded=True))
    assert torch.equal(before, nn.utils.parameters_to_vector(model.parameters()))
