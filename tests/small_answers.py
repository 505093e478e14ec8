"""Records of answers with made-up numbers."""

from typing import Any

import numpy as np

from nablatau.answers import AnswerScores


def answer(number: int = 0, **changes: Any) -> AnswerScores:
    """What a model might say of a question; each number another."""
    rng = np.random.default_rng(number)
    length = int(rng.integers(2, 9))
    values = {
        "id": f"q{number}",
        "prompt": f"Where was number {number} born?",
        "answer": "In Quito, says the Müller family.",
        "generated": " ".join(rng.choice(["in", "Quito", "says", "nobody", "family"], 5)),
        "token_losses": tuple(rng.exponential(1, length).tolist()),
        "token_entropies": tuple(rng.exponential(1, length).tolist()),
        "token_deviations": tuple((0.1 + rng.exponential(1, length)).tolist()),
        "right_tokens": tuple((rng.random(length) < 0.7).tolist()),
        "paraphrased_loss": float(rng.exponential(1)),
        "wrong_losses": tuple(rng.exponential(2, 5).tolist()),
    }
    return AnswerScores(**(values | changes))
