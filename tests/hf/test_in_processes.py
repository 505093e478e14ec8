"""Two processes (gloo) with a language model: adapters in shares, and questions shared, as one process does both."""

from typing import Any

import pytest
import torch

import small_texts
from launching import run_script
from nablatau.hf.pretrained import quiet
from small_runs import farthest

transformers = pytest.importorskip("transformers", reason="the extra `hf` is not installed")
peft = pytest.importorskip("peft", reason="the extra `hf` is not installed")

SCRIPT = """
import copy, dataclasses, os, sys
from pathlib import Path
import pytest
import torch, torch.distributed as distributed
sys.path.insert(0, sys.argv[1])
import nablatau, small_llama
from nablatau import NablaTau, Runtime
from nablatau.errors import SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.hf import Columns, language_scores, text_project
from nablatau.methods import METHODS
from nablatau.sharding import is_sharded, own_share, shard

torch.set_num_threads(1)
folder, several = Path(sys.argv[2]).parent, "RANK" in os.environ
if several:
    distributed.init_process_group("gloo")
first = int(os.environ.get("RANK", 0)) == 0
found = {"weights": {}}

def opened(model, task):
    files = {name: folder / f"{task} {name}.jsonl" for name in ("train", "holdout")}
    columns = Columns(text="answer", prompt="question") if task == "causal-lm" else Columns()
    rank = None if "learned" in model.name else 2
    return text_project(str(model), task=task, columns=columns, lora_rank=rank, **files)

def forgotten(texts, name, **settings):
    model, before = texts.project.model, weights_digest(texts.project.model)
    method = NablaTau(batch_size=5, least_records=60) if name == "nabla_tau" else METHODS[name](epochs=1, batch_size=5)
    request, runtime = texts.project.data.forget_ids(range(7)), Runtime(sharded=several, share_frozen=True, **settings)
    done = nablatau.forget(model, request, texts.project.objective, method=method, runtime=runtime)
    assert type(done.model) is type(model) and not is_sharded(done.model) and weights_digest(model) == before
    flags = {key: each.requires_grad for key, each in model.named_parameters()}
    assert flags == {key: each.requires_grad for key, each in done.model.named_parameters()}
    kept = model.state_dict()
    moved = {key: value for key, value in done.model.state_dict().items() if not torch.equal(value, kept[key])}
    assert moved and all("lora_" in key or "modules_to_save" in key for key in moved)
    found["weights"] |= {f"{texts.task.name} {name} {settings} {key}": value for key, value in moved.items()}
    return done

fresh = opened(folder / "llama", "causal-lm")
saving = {"micro_batch_size": 2, "recompute_activations": True}
learned = folder / f"learned {1 + several}"
done = forgotten(fresh, "nabla_tau")
fresh.save(learned, done)
if several:
    distributed.barrier()
forgotten(fresh, "npo", **saving)  # asks the original, which is the model with its adapter switched off
forgotten(opened(learned, "causal-lm"), "npo")  # and here is another than that
classifier = opened(folder / "bert", "text-classification")
forgotten(classifier, "nabla_tau")  # with a head beside the adapter

if several:
    total = sum(each.numel() for each in fresh.project.model.parameters())
    held = sum(own_share(each).numel() for each in shard(fresh.project.model, torch.device("cpu")).parameters())
    assert held <= 0.6 * total
    mixed = copy.deepcopy(fresh.project.model)
    next(each for each in mixed.parameters() if each.requires_grad).data = torch.zeros(2, 32, dtype=torch.bfloat16)
    with pytest.raises(SettingsError, match="here they are of 2 types"):
        shard(mixed, torch.device("cpu"))

words, asked = small_llama.tokenizer(), small_llama.questions(9, 1)
model, texts = small_llama.taught(small_llama.llama(), asked, steps=30), []
model.register_forward_pre_hook(lambda module, _, given: texts.append(len(given["input_ids"])), with_kwargs=True)
alone = language_scores(model, words, asked, most_new_tokens=0, batch_size=4)
assert sum(texts) == (18 if several else 36)  # four answers to each question
every = language_scores(model, words, asked, most_new_tokens=8, batch_size=4)
few = language_scores(model, words, asked[:1], most_new_tokens=8)  # no prompt for the second process
found["scores"] = [dataclasses.asdict(each) for each in (*alone, *every, *few)]
long = dataclasses.replace(asked[3], prompt=" ".join(["red"] * 55))
with pytest.raises(SettingsError, match="12 new ones are asked for"):  # in every process, whosesoever the prompt is
    language_scores(model, words, [*asked[:3], long], most_new_tokens=12)

if first:
    torch.save(found, sys.argv[2])
if several:
    distributed.barrier()
    distributed.destroy_process_group()
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What the script finds in one process and in two, and the folder that it wrote into."""
    folder = tmp_path_factory.mktemp("processes")
    small_texts.save(folder / "llama", small_texts.answering_llama(), small_texts.answering_tokenizer())
    bert = small_texts.bert()
    bert.config.hidden_dropout_prob = bert.config.attention_probs_dropout_prob = 0.0  # each process draws its own
    small_texts.save(folder / "bert", bert)
    for name, size, seed in (("train", 24, 1), ("holdout", 16, 2)):
        small_texts.write_jsonl(folder / f"causal-lm {name}.jsonl", small_texts.questions(size, seed))
        small_texts.write_jsonl(folder / f"text-classification {name}.jsonl", small_texts.records(size, seed))
    runs = {count: torch.load(run_script(SCRIPT, folder, count), weights_only=True) for count in (1, 2)}
    return runs | {"folder": folder}


@pytest.mark.timeout(600)
def test_adapters_in_shares_are_those_of_one_process(found: dict[Any, Any]) -> None:
    far, where = farthest(found[1]["weights"], found[2]["weights"])
    assert far < 1e-5, where


def test_peft_loads_the_adapter_that_was_saved(found: dict[Any, Any]) -> None:
    for count in (1, 2):
        with quiet():
            base = transformers.AutoModelForCausalLM.from_pretrained(found["folder"] / "llama")
            state = peft.PeftModel.from_pretrained(base, found["folder"] / f"learned {count}").state_dict()
        kept = {
            key.rpartition(" ")[2]: value for key, value in found[count]["weights"].items() if "lm nabla_tau" in key
        }
        assert kept
        assert all(torch.equal(value, state[key]) for key, value in kept.items())


def test_questions_are_shared_and_scored_as_by_one_process(found: dict[Any, Any]) -> None:
    one, two = found[1]["scores"], found[2]["scores"]
    assert len(one) == len(two) == 19
    for ours, theirs in zip(one, two, strict=True):
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            expected = theirs[name]
            numbers = name.endswith(("loss", "losses", "entropies", "deviations"))
            assert value == (pytest.approx(expected, abs=1e-5) if numbers and expected is not None else expected), name
