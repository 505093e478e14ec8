"""One tester over every row of METRICS: the facts are true of the function."""

import importlib
import inspect
import math
import pkgutil

import numpy as np
import pytest

import nablatau.metrics
from nablatau.metrics import METRICS, Metric
from nablatau.statistics import Interval

N, C, K = 60, 5, 12


def examples(order=slice(None), seed=0):
    """Arguments by their names in the vocabulary, all of the same N examples; `order` reorders the
    examples."""
    rng = np.random.default_rng(seed)
    logits = {
        model: rng.normal(0, 2, (N, C))[order]
        for model in ("", "original", "unlearned", "reference", "first", "second")
    }
    predictions = {model: value.argmax(axis=1) for model, value in logits.items()}
    correct = {key: (rng.random(N) < 0.7)[order] for key in ("a", "b", "c", "d")}
    scores = [rng.normal(size=N)[order] for _ in range(4)]
    margins = [rng.normal(size=(K, N))[:, order] for _ in range(2)]
    values = {f"{model}_logits": value for model, value in logits.items()}
    values |= {f"{model}_predictions": value for model, value in predictions.items()}
    values |= {
        "labels": rng.integers(0, C, N)[order],
        "logits": logits[""],
        "predictions": predictions[""],
        "random_teacher_logits": logits["first"],
        "unlearned_correct": [correct["a"], correct["b"]],
        "reference_correct": [correct["c"], correct["d"]],
        "unlearned_margins": margins[0],
        "reference_margins": margins[1],
        "original_risk": scores[0],
        "unlearned_risk": scores[1],
        "forget_scores": scores[2],
        "holdout_scores": scores[3],
        "targets": rng.normal(size=N)[order],
        "correct_tokens": [rng.random(7) < 0.6 for _ in range(N)],
        "question_sets": [rng.random((N, 3))[order], rng.random((N, 2))[order]],
        "steps": [0, 1, 5, 10],
        "curve": [0.1, 0.3, 0.8, 0.9],
        "unlearned_curve": [0.1, 0.3, 0.8, 0.9],
        "reference_curve": [0.1, 0.2, 0.4, 0.9],
        "original_accuracy": 0.9,
        "target": 0.5,
    }
    for i, model in enumerate(("unlearned", "reference")):
        values |= {f"{model}_forget_scores": scores[2 * i], f"{model}_holdout_scores": scores[2 * i + 1]}
    for split in ("forget", "holdout"):
        values |= {f"{split}_correct_before": correct["a"], f"{split}_correct_after": correct["b"]}
    return values


def arguments(metric, values):
    special = {"f1_macro": "matrix", "f1_micro": "matrix"}
    if special.get(metric.name):
        rows = values["logits"] > 0
        return [rows, values["first_logits"] > 0]
    return [values[need] for need in metric.needs]


@pytest.fixture(params=sorted(METRICS))
def metric(request):
    return METRICS[request.param]


def test_needs_are_the_arguments_without_default(metric):
    parameters = inspect.signature(metric.function).parameters.values()
    assert metric.needs == tuple(p.name for p in parameters if p.default is p.empty)
    assert metric.name == metric.function.__name__
    assert metric.function.__doc__.strip().startswith("Return")


def test_value_and_limits_lie_in_the_stated_range(metric):
    for seed in range(3):
        found = metric.function(*arguments(metric, examples(seed=seed)))
        assert isinstance(found, Interval)
        assert metric.low - 1e-12 <= found.low <= found.high <= metric.high + 1e-12 or metric.name == "r_squared"
        assert metric.low - 1e-12 <= found.value <= metric.high + 1e-12
        assert found.low <= found.value <= found.high
        assert found.n > 0
        assert found.method


def test_same_input_same_output(metric):
    assert metric.function(*arguments(metric, examples())) == metric.function(*arguments(metric, examples()))


def test_the_order_of_examples_does_not_matter(metric):
    shuffled = examples(order=np.random.default_rng(9).permutation(N))
    one, other = (metric.function(*arguments(metric, values)) for values in (examples(), shuffled))
    assert one.value == pytest.approx(other.value)


TWO_SETS = {  # of any lengths
    "epsilon_lower_bound",
    "exact_memorisation",
    "extraction_strength",
    "model_utility",
    "privacy_leak",
    "worst_tenth",
}


def shortened(first, metric):
    """The first argument without its last example."""
    if isinstance(first, list) and np.ndim(first[0]):
        return [part[:-1] for part in first]
    return first[:, :-1] if "margins" in metric.needs[0] else first[:-1]


@pytest.mark.parametrize("name", sorted(set(METRICS) - TWO_SETS))
def test_unequal_lengths_are_refused(name):
    metric = METRICS[name]
    given = arguments(metric, examples())
    with pytest.raises(ValueError, match=r"differ|rows are models"):
        metric.function(shortened(given[0], metric), *given[1:])


def test_not_finite_is_refused_and_empty_too(metric):
    given = arguments(metric, examples())
    if isinstance(given[0], list) and np.ndim(given[0][0]):
        broken, empty = [np.full(N, np.nan), *given[0][1:]], []
    else:
        broken = np.array(given[0], dtype=float)
        broken.flat[1] = np.nan
        empty = np.zeros((0, *broken.shape[1:]))
    for first in (broken, empty):
        with pytest.raises(ValueError, match=r"\w"):
            metric.function(first, *given[1:])


def test_every_interval_function_of_the_folder_is_a_row():
    """A metric without a row would be invisible; null floors and helpers that return no interval are
    exempt."""
    found = set()
    for module in pkgutil.iter_modules(nablatau.metrics.__path__):
        contents = vars(importlib.import_module(f"nablatau.metrics.{module.name}"))
        for name, thing in contents.items():
            if inspect.isfunction(thing) and thing.__module__.endswith(module.name) and not name.startswith("_"):
                returns = inspect.signature(thing).return_annotation
                if returns is Interval and not name.endswith("null_floor"):
                    found.add(name)
    assert found == set(METRICS)


def test_the_public_list_is_exact():
    public = {
        name
        for name, thing in vars(nablatau.metrics).items()
        if not name.startswith("_") and not inspect.ismodule(thing)
    }
    assert public - {"Callable", "Literal", "Interval"} == set(nablatau.metrics.__all__)


def test_a_row_with_holes_is_refused():
    with pytest.raises(ValueError, match="null floor"):
        Metric("x", METRICS["accuracy"].function, 0, 1, "high", ("labels",), "", "somewhere")
    with pytest.raises(ValueError, match="empty"):
        Metric("x", METRICS["accuracy"].function, 1, 1, "high", ("labels",), "0", "somewhere")


def test_ranges_are_numbers():
    assert all(not math.isnan(m.low + m.high) or math.isinf(m.low) for m in METRICS.values())
