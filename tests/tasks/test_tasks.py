"""Every task is whole: disjoint splits, a model that fits its data, one seed for one split."""

import numpy as np
import pytest
import torch

import nablatau
from nablatau.records import Records
from nablatau.scoring import score
from nablatau.tasks import TASKS
from nablatau.tasks.augmentations import crop, crop_and_flip
from nablatau.tasks.goemotions import labels_of, tokens_of, vocabulary
from nablatau.tasks.models import ResNet18, TextEncoder
from nablatau.tasks.sources import is_available
from nablatau.tasks.splits import shuffled_parts

NEEDS = {
    "fashion_mnist": "fashion_mnist",
    "cifar10": "cifar10",
    "cifar10_small": "cifar10",
    "cifar100": "cifar100",
    "goemotions": "goemotions",
    "adult": "adult",
    "california_housing": "california_housing",
    "tofu": "tofu",
    "tofu_small": "tofu",
}
ON_TEXTS = ("tofu", "tofu_small")
"""Those that need the extra `hf`."""


def skip_without_data(name: str) -> None:
    if name in NEEDS and not is_available(NEEDS[name]):
        pytest.skip(f"{NEEDS[name]} is not in NABLATAU_DATA")


@pytest.mark.parametrize("name", TASKS)
def test_a_task_is_whole(name: str) -> None:
    skip_without_data(name)
    if name in ON_TEXTS:
        pytest.importorskip("transformers", reason="the extra `hf` is not installed")
    project = TASKS[name]()
    line = (TASKS[name].__doc__ or "").splitlines()[0].replace(",", "")
    for part in (project.train_set, project.holdout_set, project.test_set):
        assert part is not None
        assert f"{len(part)} " in line
    assert project.recipe is not None
    assert project.groups is None or len(project.groups) == len(project.train_set)
    records = Records.all_of(project.train_set).subset(np.arange(8))
    scores = score(project.model, records, project.objective)
    assert np.isfinite(scores["loss"]).all()


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "diabetes"])
def test_small_tasks_are_learned_and_forgotten(name: str) -> None:
    project = TASKS[name]().trained(seed=0)
    request = project.data.forget_fraction(0.15)
    result = nablatau.forget(project.model, request, project.objective)
    evaluation = nablatau.evaluate(project.model, result, request, project.objective, test_set=project.test_set)
    first, last = evaluation.rows[0], evaluation.rows[3]
    if name == "diabetes":
        assert last.values["original"].value < 1.0  # predicting the mean has RMSE 1
    else:
        assert first.values["original"].value > 0.99
        assert last.values["original"].value > 0.9
        assert abs(last.values["unlearned"].value - last.values["original"].value) < 0.03


def test_the_marks_are_where_they_are_said_to_be() -> None:
    """Two thirds of one class in training, all of the test set, and nothing of the holdout set."""
    project, corners = TASKS["digits_marked"](), [0, 7]
    assert project.groups is not None
    marked = np.array([group == "marked" for group in project.groups])
    pixels, labels = project.train_set.tensors  # type: ignore[attr-defined]
    assert ((pixels[:, corners] == 1).all(dim=1).numpy() == marked).all()
    assert set(labels[torch.from_numpy(marked)].tolist()) == {3}
    assert 0.5 < marked.sum() / int((labels == 3).sum()) < 0.85
    assert (project.test_set.tensors[0][:, corners] == 1).all()  # type: ignore[union-attr]
    assert not (project.holdout_set.tensors[0][:, corners] == 1).any()  # type: ignore[union-attr]


def test_splits_are_disjoint_and_the_same_for_all() -> None:
    parts = shuffled_parts(100, [50, 20, 30])
    assert sorted(np.concatenate(parts).tolist()) == list(range(100))
    assert parts[0][:3].tolist() == shuffled_parts(100, [50, 20, 30])[0][:3].tolist() == [48, 73, 17]


def test_the_paper_network_has_the_published_size() -> None:
    """torchvision's resnet18 with 10 outputs has 11,181,642 parameters."""
    assert sum(parameter.numel() for parameter in ResNet18(10).parameters()) == 11_181_642
    assert ResNet18(10)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
    assert ResNet18(10, width=8, cifar_stem=True)(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_comments_as_tokens_and_labels() -> None:
    texts = ["Thanks [NAME], thanks!", "I don't know.", "thanks"]
    numbers = vocabulary(texts)
    assert next(iter(numbers)) == "thanks"
    assert {"[name]", ",", "!", "don't"} <= set(numbers)
    rows = [{"text": "THANKS, stranger", "label_ids": "15"}, {"text": "know " * 40, "label_ids": "3 27"}]
    tokens = tokens_of(rows, numbers)
    assert tokens[0].tolist() == [2, numbers[","], 1, *[0] * 21]
    assert tokens[1].tolist() == [numbers["know"]] * 24
    assert [each.nonzero().flatten().tolist() for each in labels_of(rows)] == [[15], [3, 27]]


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_filling_does_not_change_what_is_said_of_a_text(mode: str) -> None:
    torch.manual_seed(0)
    network = TextEncoder(20, 12, 5).train(mode == "train")
    words = torch.randint(1, 20, (3, 7))
    with torch.no_grad():
        found = network(torch.nn.functional.pad(words, [0, 5]))
        assert torch.allclose(found, network(words), atol=1e-6)
        assert not torch.allclose(found, network(words.flip(1)), atol=1e-3)


def test_crop_against_a_naive_one() -> None:
    images = torch.arange(2.0 * 3 * 6 * 6).reshape(2, 3, 6, 6)
    draws = torch.randint(0, 5, (2, 2), generator=torch.Generator().manual_seed(3))
    found = crop(images, torch.Generator().manual_seed(3), padding=2)
    padded = torch.nn.functional.pad(images, [2, 2, 2, 2])
    for i in range(2):
        top, left = draws[0, i], draws[1, i]
        assert torch.equal(found[i], padded[i, :, top : top + 6, left : left + 6])


def test_augmentation_draws_from_its_generator_alone() -> None:
    batch = (torch.randn(16, 3, 8, 8), torch.arange(16))
    state = torch.get_rng_state()
    first, again = (crop_and_flip(batch, torch.Generator().manual_seed(1))[0] for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(first, batch[0])
