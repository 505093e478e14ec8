"""RMU against a loop by hand; three blocks move and no other; which layer is chosen; what is refused."""

import copy
from itertools import chain
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from by_hand import Text, apart, text_passes, texts_request, trained_network, trained_transformer, wide_request
from nablatau import Objective
from nablatau.data import Request
from nablatau.errors import SettingsError
from nablatau.fingerprints import weights_digest
from nablatau.methods import Rmu
from nablatau.methods.rmu import direction, steered
from small import small_network, small_transformer


def hidden(model: nn.Module, text: Text, blocks: int) -> Tensor:
    """What the first blocks of a small transformer make of a text, at the positions that tell a labelled token."""
    ids, labels = text["input_ids"], text["labels"]
    x_BTH = model.words(ids[None]) + model.places(torch.arange(len(ids)))  # type: ignore[operator]
    for block in model.blocks[:blocks]:  # type: ignore[index]
        x_BTH = block(x_BTH)
    return x_BTH[0, [place - 1 for place in range(1, len(ids)) if labels[place] != -100]]


def naive_rmu(model: nn.Module, request: Request, aim_H: Tensor, steps: int, seed: int) -> None:
    """AdamW over the second and third block on ‖h − c·u‖² of forget texts and α · ‖h − h⁰‖² of retain texts."""
    original = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.blocks[:3].parameters(), lr=0.01)  # type: ignore[index,union-attr]
    forget = chain.from_iterable(text_passes(request.forget_set, 4, seed, "forget batches"))
    retain = chain.from_iterable(text_passes(request.retain_set, 4, seed, "retain batches"))
    for _ in range(steps):
        steer = [(hidden(model, text, 3) - aim_H).square().sum(1).mean() for text in next(forget)]
        pairs = [(hidden(model, text, 3), hidden(original, text, 3).detach()) for text in next(retain)]
        hold = [16 * mse_loss(now, before) for now, before in pairs]
        optimizer.zero_grad()
        (torch.stack(steer).mean() + 20 * torch.stack(hold).mean()).backward()
        optimizer.step()


def test_steps_equal_a_loop_by_hand_and_three_blocks_move() -> None:
    request = texts_request()
    original = small_transformer(dtype=torch.float64, blocks=5)
    settings = Rmu(layer="blocks.2", steps=6, learning_rate=0.01, retain_weight=20.0)
    done = settings.unlearn(original, request, Objective.causal_lm(), seed=9)
    naive = copy.deepcopy(original)
    naive_rmu(naive, request, 6.5 * direction(torch.zeros(1, 2, 16, dtype=torch.float64), 9), 6, seed=9)
    assert apart(done.model, naive) < 1e-10 < apart(done.model, original)
    moved = {name for name, part in done.model.named_children() if _differs(part, original.get_submodule(name))}
    assert moved == {"blocks"}
    blocks = list(zip(done.model.blocks, original.blocks, strict=True))  # type: ignore[arg-type]
    assert [_differs(*pair) for pair in blocks] == [True, True, True, False, False]


def _differs(one: nn.Module, other: nn.Module) -> bool:
    return weights_digest(one) != weights_digest(other)


def test_forgotten_texts_go_towards_the_direction_and_others_stay() -> None:
    request = texts_request()
    original = trained_transformer(request)
    settings = Rmu(layer="blocks.1", steps=60, learning_rate=0.01, retain_weight=10.0)
    done = settings.unlearn(original, request, Objective.causal_lm(), seed=9)
    aim = 6.5 * direction(torch.zeros(1, 2, 16, dtype=torch.float64), 9)
    forget, retain = ([records[i] for i in range(len(records))] for records in (request.forget_set, request.retain_set))

    def gap(model: nn.Module, texts: list[Text]) -> float:
        return float(torch.stack([(hidden(model, text, 2) - aim).square().sum(1).mean() for text in texts]).mean())

    def moved(texts: list[Text]) -> float:
        pairs = [(hidden(done.model, text, 2), hidden(original, text, 2)) for text in texts]
        return float(torch.stack([(a - b).square().sum(1).mean() for a, b in pairs]).mean())

    done.model.requires_grad_(False)
    original.requires_grad_(False)
    assert gap(done.model, forget) < gap(original, forget) / 2
    assert moved(retain) < moved(forget) / 2


def test_the_direction_is_one_of_length_1_for_each_seed() -> None:
    one, again, other = (direction(torch.zeros(1, 3, 8), seed) for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.equal(one, other)
    assert one.norm().item() == pytest.approx(1.0)
    assert one.min() >= 0
    assert direction(torch.zeros(1, 2, 3, 4), 0).shape == (24,)


class Mixture(nn.Module):
    """Blocks of experts, of which there are more than blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
        self.layers = nn.ModuleList(nn.ModuleList(nn.Linear(2, 2) for _ in range(40)) for _ in range(32))


def test_which_layer_is_chosen() -> None:
    model = Mixture()
    name, moving = steered(model, None)
    assert name == "layers.7"
    assert moving == list(model.layers[5:8])
    assert steered(model, "layers.0") == ("layers.0", [model.layers[0]])
    assert steered(model, "layers") == ("layers", [model.layers])
    assert steered(small_network(), None)[0] == "0"


def test_what_is_refused_before_any_work() -> None:
    request, objective = wide_request(), Objective.classification()
    model = trained_network(request)
    with pytest.raises(SettingsError, match=r"no module 'layer\.2'\. See model"):
        Rmu(layer="layer.2").unlearn(model, request, objective)
    with pytest.raises(SettingsError, match="no ModuleList or Sequential"):
        Rmu().unlearn(nn.Linear(6, 3).double(), request, objective)
    with pytest.raises(SettingsError, match="module 'blocks' is not called"):
        Rmu(layer="blocks").unlearn(small_transformer(), texts_request(), Objective.causal_lm())
    model[0].requires_grad_(False)  # type: ignore[index]
    with pytest.raises(SettingsError, match="steers the output of '0' by the weights of it"):
        Rmu().unlearn(model, request, objective)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"coefficient": 0.0}, "coefficient must be above 0"),
        ({"steps": 1.5}, "steps must be a whole number"),
        ({"retain_weight": -1.0}, "retain_weight must be 0 or more"),
    ],
)
def test_impossible_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        Rmu(**settings)


def test_a_loss_of_ones_own_will_do() -> None:
    request = wide_request()
    own = Objective.of_loss(
        lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1], reduction="none")
    )
    models = [
        Rmu(steps=5).unlearn(trained_network(request), request, objective).model
        for objective in (own, Objective.classification())
    ]
    assert apart(*models) == 0
