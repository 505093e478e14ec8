"""The contract of every attack in the table: what it needs, returns and refuses, and how long it takes."""

from __future__ import annotations

import inspect
import time
from collections.abc import Iterable
from dataclasses import FrozenInstanceError, fields, is_dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

import nablatau.attacks
from nablatau.attacks import ATTACKS, Attack
from nablatau.attacks.u_lira import draw_thirds
from nablatau.statistics import confidence, cross_entropy, entropy, margin, modified_entropy

NOT_ATTACKS = {"__init__", "checks", "shadow_moments"}
SCORES = sorted(name for name, attack in ATTACKS.items() if attack.gives == "scores")
RESULTS = sorted(name for name, attack in ATTACKS.items() if attack.gives == "result")
OF_SCORED = {
    "losses",
    "labels",
    "predictions",
    "confidences",
    "entropies",
    "modified_entropies",
    "margins",
} | {
    "reference_losses",
    "compressed_sizes",
    "token_log_probabilities",
    "token_means",
    "token_deviations",
    "shadow_losses",
    "shadow_margins",
    "inclusion",
    "states",
}
MODELS = 9


def ragged(vectors: Iterable[np.ndarray]) -> np.ndarray:
    """Vectors of several lengths as the entries of one array."""
    listed = list(vectors)
    found = np.empty(len(listed), dtype=object)
    found[:] = [vector.copy() for vector in listed] if len({len(v) for v in listed}) > 1 else listed
    return found


def flat(array: np.ndarray) -> np.ndarray:
    """The values of all vectors, where the entries are vectors."""
    return np.concatenate(array) if array.dtype == object else array


def broken(array: np.ndarray) -> np.ndarray:
    """The array with a value that is no number in the place of its first."""
    if array.dtype == object:
        return ragged([np.append(array[0][:-1], np.nan), *array[1:]])
    found = array.astype(float)
    found.flat[0] = np.nan
    return found


def evidence(records: int, *, leak: float, seed: int = 0) -> dict[str, np.ndarray]:
    """Every array that any attack needs: members are the first half; leak is their lead in nats of margin."""
    generator = np.random.default_rng(seed)
    member, classes = np.arange(records) < records // 2, 5

    def outputs(lead: np.ndarray) -> np.ndarray:
        logits = base + generator.normal(0, 0.7, base.shape)
        logits[np.arange(len(labels)), labels] += lead
        return logits

    labels = generator.integers(0, classes, 2 * records)
    base = generator.normal(0, 1.5, (2 * records, classes))
    base[np.arange(2 * records), labels] += 2
    scored, rest = slice(0, records), slice(records, 2 * records)
    nothing = np.zeros(2 * records)
    audited, reference = outputs(leak * np.append(member, np.zeros(records))), outputs(nothing)
    inclusion = generator.permuted(np.tile(np.arange(MODELS) % 2 == 0, (records, 1)), axis=1).T
    states = draw_thirds(MODELS, records, seed=seed)
    trained = [outputs(leak * np.append(row, np.zeros(records))) for row in inclusion]
    unlearned = [outputs(leak * np.append(row == 2, np.zeros(records))) for row in states]
    shadow = {"margins": margin, "losses": cross_entropy}
    found = {name: function(audited, labels) for name, function in shadow.items()}
    of = {"confidences": confidence, "modified_entropies": modified_entropy} | shadow
    whole = {name: function(audited, labels) for name, function in of.items()} | {"entropies": entropy(audited)}
    found = {name: values[scored] for name, values in whole.items()}
    found |= {f"forget_{name}": values[scored][member] for name, values in whole.items()}
    found |= {f"retain_{name}": values[scored][member] for name, values in whole.items()}
    found |= {f"unseen_{name}": values[rest] for name, values in whole.items()}
    losses = cross_entropy(reference, labels)
    shadow_losses = np.array([cross_entropy(logits, labels) for logits in trained])
    tokens = whole["margins"][scored][:, None] + generator.normal(0, 0.3, (records, 6))
    lengths = generator.integers(1, 7, records)
    texts = ragged(row[:length] for row, length in zip(tokens, lengths, strict=True))
    return found | {
        "token_log_probabilities": texts,
        "token_means": ragged(np.zeros(length) for length in lengths),
        "token_deviations": ragged(np.ones(length) for length in lengths),
        "compressed_sizes": generator.integers(90, 110, records),
        "labels": labels[scored],
        "predictions": audited.argmax(axis=1)[scored],
        "population_labels": labels[rest],
        "population_losses": whole["losses"][rest],
        "reference_losses": losses[scored],
        "population_reference_losses": losses[rest],
        "shadow_losses": shadow_losses[:, scored],
        "population_shadow_losses": shadow_losses[:, rest],
        "shadow_margins": np.array([margin(logits, labels) for logits in trained])[:, scored],
        "unlearned_margins": np.array([margin(logits, labels) for logits in unlearned])[:, scored],
        "inclusion": inclusion,
        "states": states,
        "scores": whole["margins"][scored],
        "included": member,
        "forget_scores": whole["margins"][scored][member],
        "unseen_scores": whole["margins"][scored][~member],
        "swapped_forget_scores": whole["margins"][scored][~member] + leak,
        "swapped_unseen_scores": whole["margins"][scored][member] - leak,
        "planted_scores": whole["margins"][scored][member],
        "unplanted_scores": whole["margins"][scored][member] - leak * generator.random(records // 2),
        "noise": generator.normal(size=(records, 4)),
        "gradients": generator.normal(size=(records, 4)),
    }


def arguments(attack: Attack, arrays: dict[str, np.ndarray]) -> tuple[list[np.ndarray], dict[str, float]]:
    names = ["unlearned_margins" if attack.name == "u_lira" and n == "shadow_margins" else n for n in attack.needs]
    return [arrays[name].copy() for name in names], {"sigma": 1.0} if attack.name == "gaussian_canaries" else {}


def run(attack: Attack, arrays: dict[str, np.ndarray]) -> object:
    positional, keywords = arguments(attack, arrays)
    return attack.function(*positional, **keywords)


@pytest.fixture(scope="module")
def leaking() -> dict[str, np.ndarray]:
    return evidence(600, leak=2.5)


@pytest.fixture(scope="module")
def forgotten() -> dict[str, np.ndarray]:
    return evidence(600, leak=0.0, seed=1)


def test_every_file_has_its_attack_and_every_attack_a_file() -> None:
    files = {path.stem for path in Path(inspect.getfile(nablatau.attacks)).parent.glob("*.py")} - NOT_ATTACKS
    listed = {
        inspect.unwrap(getattr(a.function, "func", a.function)).__module__.split(".")[-1] for a in ATTACKS.values()
    }
    assert files == listed


def test_every_file_has_its_tests() -> None:
    sources = {path.stem for path in Path(inspect.getfile(nablatau.attacks)).parent.glob("*.py")}
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert sources - {"__init__", "checks", "shadow_moments"} <= tests


@pytest.mark.parametrize("name", ATTACKS)
def test_the_facts_are_there(name: str) -> None:
    attack = ATTACKS[name]
    assert attack.name == name
    assert attack.tier in (1, 2, 3)
    assert all(getattr(attack, field.name) not in ("", ()) for field in fields(attack))
    with pytest.raises(FrozenInstanceError):
        attack.tier = 1  # type: ignore[misc]


@pytest.mark.parametrize("name", ATTACKS)
def test_needs_are_the_required_parameters_in_order(name: str) -> None:
    parameters = inspect.signature(ATTACKS[name].function).parameters.values()
    positional = [p for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    keywords = {p.name for p in parameters if p.kind is p.KEYWORD_ONLY and p.default is p.empty}
    assert len(positional) == len(ATTACKS[name].needs)
    assert keywords == ({"sigma"} if name == "gaussian_canaries" else set())
    for parameter, needed in zip(positional, ATTACKS[name].needs, strict=True):
        generic = parameter.name.removesuffix("values")  # one function for several signals
        assert needed == parameter.name or (generic != parameter.name and needed.startswith(generic))


def test_the_table_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ATTACKS["mine"] = ATTACKS["loss_threshold"]  # type: ignore[index]


def test_only_the_field_s_own_attacks_are_compatibility_numbers() -> None:
    named = {name for name, attack in ATTACKS.items() if attack.compatibility}
    assert named == {name for name in ATTACKS if name.startswith(("logistic_regression", "svc"))}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_for_each_record_higher_for_members(name: str, leaking: dict[str, np.ndarray]) -> None:
    scores = run(ATTACKS[name], leaking)
    assert isinstance(scores, np.ndarray)
    assert scores.dtype == np.float64
    assert scores.shape == (600,)
    assert np.isfinite(scores).all()
    assert roc_auc_score(leaking["included"], scores) > 0.6


@pytest.mark.parametrize("name", SCORES)
def test_a_retrained_model_is_at_chance(name: str, forgotten: dict[str, np.ndarray]) -> None:
    assert 0.42 < roc_auc_score(forgotten["included"], run(ATTACKS[name], forgotten)) < 0.58


@pytest.mark.parametrize("name", SCORES)
def test_the_order_of_the_records_does_not_matter(name: str, leaking: dict[str, np.ndarray]) -> None:
    order = np.random.default_rng(0).permutation(600)
    shuffled = {
        key: values[..., order] if key in OF_SCORED | {"unlearned_margins"} else values
        for key, values in leaking.items()
    }
    assert run(ATTACKS[name], shuffled) == pytest.approx(np.asarray(run(ATTACKS[name], leaking))[order])


@pytest.mark.parametrize("name", RESULTS)
def test_a_result_is_a_frozen_record_of_plain_numbers(name: str, leaking: dict[str, np.ndarray]) -> None:
    result = run(ATTACKS[name], leaking)
    assert is_dataclass(result)
    assert result.__dataclass_params__.frozen  # type: ignore[attr-defined]
    for field in fields(result):
        value = getattr(result, field.name)
        numbers = value if isinstance(value, tuple) else (value,)
        assert all(type(number) in (int, float) for number in numbers), field.name


@pytest.mark.parametrize("name", ATTACKS)
def test_arrays_are_left_alone_and_twice_is_the_same(name: str, leaking: dict[str, np.ndarray]) -> None:
    positional, keywords = arguments(ATTACKS[name], leaking)
    before = [array.copy() for array in positional]
    state = np.random.get_state()[1].copy()
    first, second = (ATTACKS[name].function(*positional, **keywords) for _ in range(2))
    assert np.array_equal(np.random.get_state()[1], state)  # the global generator is not drawn from
    assert all(np.array_equal(flat(a), flat(b)) for a, b in zip(before, positional, strict=True))
    assert np.array_equal(first, second) if isinstance(first, np.ndarray) else first == second


@pytest.mark.parametrize(("name", "position"), [(n, i) for n, a in ATTACKS.items() for i in range(len(a.needs))])
def test_empty_and_broken_arrays_are_refused(name: str, position: int, leaking: dict[str, np.ndarray]) -> None:
    positional, keywords = arguments(ATTACKS[name], leaking)
    good = positional[position]
    for bad in (good[:0], broken(good)):
        positional[position] = bad
        with pytest.raises(ValueError, match=r"\w+ .+[.,:;] .+[.]"):
            ATTACKS[name].function(*positional, **keywords)


def test_a_hundred_thousand_records_in_tiers_one_and_two_take_less_than_eight_seconds() -> None:
    arrays = evidence(2000, leak=0.5)
    scale = 50
    large = {
        key: np.tile(values, scale) + (1e-9 * np.arange(values.size * scale) if values.dtype == float else 0)
        for key, values in arrays.items()
        if values.ndim == 1
    }
    logits = np.random.default_rng(0).normal(0, 3, (100_000, 10)).astype(np.float32)
    labels = logits.argmax(axis=1)
    start = time.process_time()
    for signal in (margin, cross_entropy, modified_entropy):
        signal(logits, labels)
    entropy(logits)
    for attack in ATTACKS.values():
        if attack.tier < 3:
            run(attack, large)
    assert time.process_time() - start < 8.0
