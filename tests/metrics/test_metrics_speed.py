"""100,000 examples are a matter of seconds, in linear memory."""

import time

import numpy as np

from nablatau import metrics


def test_a_hundred_thousand_examples_are_quick():
    rng, n = np.random.default_rng(0), 100_000
    logits = rng.normal(0, 2, (n, 10)).astype(np.float32)
    other = logits + rng.normal(0, 0.3, logits.shape).astype(np.float32)
    labels, first, second = rng.integers(0, 10, n), logits.argmax(axis=1), other.argmax(axis=1)
    started = time.perf_counter()
    metrics.worst_class_accuracy(first, labels)
    metrics.negative_flips(first, second, labels)
    metrics.expected_calibration_error(logits, labels)
    metrics.activation_distance(logits, other)
    metrics.nearer_to_reference(logits, other, logits)
    metrics.class_goal_distance(logits, other)
    metrics.recovery_contrast(first == labels, second == labels, first == labels, second == labels)
    metrics.epsilon_lower_bound(logits[:, 0], logits[:, 1])
    metrics.r_squared(logits[:, 0], other[:, 0])
    metrics.f1_macro(logits > 0, other > 0)
    metrics.klom_histogram(np.tile(logits.T, (2, 1)), np.tile(other.T, (2, 1)))
    assert time.perf_counter() - started < 20  # about 2 s on one quiet core
