"""What naive loops and the runs on digits share."""

import copy
from collections.abc import Callable, Iterator
from functools import cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from nablatau import Objective, Project, Recipe, TrainingData
from nablatau.data import Request
from nablatau.methods import Method
from nablatau.objectives import call_model
from nablatau.recipes import train
from nablatau.records import Records
from nablatau.runtime import random_generator
from nablatau.scoring import score
from small import random_set, random_texts, small_network, small_transformer

Text = dict[str, Any]
Pairs = list[tuple[Tensor, Tensor]]
RECIPE = Recipe(epochs=6, learning_rate=0.1, batch_size=16, build=lambda: small_network(dtype=torch.float64))


def wide_request(share: float = 0.2) -> Request:
    """A request on 90 records in float64."""
    data = TrainingData(random_set(90, 1, torch.float64), random_set(40, 2, torch.float64))
    return data.forget_fraction(share, seed=3)


def several_labels_request() -> Request:
    """A request on 60 records, each with a row of zeros and ones, in float32."""
    sets = [
        TensorDataset(inputs, torch.eye(3)[labels]) for inputs, labels in (random_set(60, 1)[:], random_set(20, 2)[:])
    ]
    return TrainingData(*sets).forget_fraction(0.2)


def trained_network(request: Request) -> nn.Module:
    """A small network trained on everything in the request, in float64."""
    everything = Records.all_of(request.forget_set.dataset)
    return train(RECIPE, everything, Objective.classification(), seed=4)


def passes_over(records: Records, size: int, seed: int, stream: str) -> Iterator[Pairs]:
    """Pass after pass over records in random order, each a list of batches of inputs and labels."""
    inputs, labels = columns(records)
    generator = random_generator(seed, stream)
    while True:
        order = torch.randperm(len(labels), generator=generator)
        yield [(inputs[each], labels[each]) for each in order.split(size)]


def columns(records: Records) -> tuple[Tensor, Tensor]:
    """Inputs and labels of all records."""
    examples = [records[i] for i in range(len(records))]
    return torch.stack([x for x, _ in examples]), torch.stack([y for _, y in examples])


def apart(one: nn.Module, other: nn.Module) -> float:
    """The largest difference between two models' weights."""
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return max(float((a.double() - b.double()).abs().max()) for a, b in pairs)


def texts_request(share: float = 0.4) -> Request:
    """A request on 30 texts."""
    return TrainingData(random_texts(30, 1), random_texts(10, 2)).forget_fraction(share, seed=3)


def trained_transformer(request: Request) -> nn.Module:
    """A small transformer in float64, trained on everything in a request on texts until it knows it by heart."""
    assert len(request.forget_set) + len(request.retain_set) == 30
    return copy.deepcopy(_known_by_heart())


@cache
def _known_by_heart() -> nn.Module:
    recipe = Recipe(
        epochs=40,
        learning_rate=0.01,
        batch_size=10,
        optimizer="adamw",
        weight_decay=0.0,
        build=lambda: small_transformer(dtype=torch.float64),
    )
    return train(recipe, Records.all_of(random_texts(30, 1)), Objective.causal_lm(), seed=4)


def log_chances(model: nn.Module, text: Text) -> Tensor:
    """log p of each labelled token of one text, given the tokens before it."""
    ids, labels = text["input_ids"], text["labels"]
    logits_TV = model(ids[None])[0]
    places = [place for place in range(1, len(ids)) if labels[place] != -100]
    return torch.stack([logits_TV[place - 1].log_softmax(0)[labels[place]] for place in places])


def mean_of(texts: list[Text], value_of: Callable[[Text], Tensor]) -> Tensor:
    """The mean of a value over texts."""
    return torch.stack([value_of(text) for text in texts]).mean()


def text_passes(records: Records, size: int, seed: int, stream: str) -> Iterator[list[list[Text]]]:
    """Pass after pass over texts in random order, each a list of batches."""
    generator = random_generator(seed, stream)
    while True:
        order = torch.randperm(len(records), generator=generator)
        yield [[records[i] for i in rows] for rows in order.split(size)]


def forget_passes_by_hand(
    model: nn.Module,
    request: Request,
    loss_of: Callable[[list[Text], list[Text]], Tensor],
    *,
    epochs: int,
    rate: float,
    size: int,
    seed: int,
) -> None:
    """AdamW on a loss of forget and retain texts; the rate rises over the first pass and falls to 0 over the others."""
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    forget = chain.from_iterable(text_passes(request.forget_set, size, seed, "forget batches"))
    retain = chain.from_iterable(text_passes(request.retain_set, size, seed, "retain batches"))
    first = -(-len(request.forget_set) // size)
    for step in range(epochs * first):
        rising, falling = (step + 1) / first, (epochs * first - step) / (epochs * first - first or 1)
        optimizer.param_groups[0]["lr"] = rate * (rising if step < first else falling)
        optimizer.zero_grad()
        loss_of(next(forget), next(retain)).backward()
        optimizer.step()


def models_asked(objective: Callable[..., Objective] = Objective.classification) -> tuple[Objective, list[Any]]:
    """An objective, and the list of the models that it is asked about."""
    asked: list[Any] = []

    def outputs(model: nn.Module, batch: Any) -> Tensor:
        if not any(model is other for other in asked):
            asked.append(model)
        return call_model(model, batch)

    return objective(outputs=outputs), asked


def on_digits(project: Project, method: Method) -> dict[str, float]:
    """Mean forget loss and test accuracy before and after a method forgets 10 % of digits."""
    assert project.test_set is not None
    request = project.data.forget_fraction(0.1)
    done = method.unlearn(project.model, request, project.objective, recipe=project.recipe)
    found = {}
    for when, model in (("before", project.model), ("after", done.model)):
        found[f"forget loss {when}"] = float(score(model, request.forget_set, project.objective)["loss"].mean())
        test = score(model, Records.all_of(project.test_set), project.objective)
        found[f"accuracy {when}"] = float(test["correct"].mean())
    return found
