"""ROUGE-L: how much of a true text stands in a generated one, in order, by their longest common subsequence of words.

Source: Lin 2004, section 3 (sentence level, β = 1). Words are runs of letters and digits in lower case, whatever the
script; what stands between them is dropped. On English text in ASCII these are the words of Google's `rouge-score`,
which MUSE uses without a stemmer and TOFU with Porter's ("runs" and "running" are one word there), so that TOFU's ROUGE
lies somewhat higher. Here words are stemmed where a stemmer is given, those of more than three letters, as there;
`nltk.PorterStemmer().stem` is the one that `rouge-score` takes. Where we differ: `rouge-score` knows the letters a to z
alone, so that "Müller" is two words there, and a text in another script none, which scores 0 however well it was told.

The subsequence is found a word of the text at a time over all places of the other at once, which are the bits of one
number (Hyyrö 2004): answers of some hundred words take microseconds.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WORD = re.compile(r"[^\W_]+")
LONGEST_UNSTEMMED = 3  # letters, as in rouge-score
Stem = Callable[[str], str]


@dataclass(frozen=True)
class RougeL:
    """ROUGE-L of a generated text; each 0 to 1."""

    recall: float  # common subsequence over the words of the true text
    precision: float  # over those of the generated text; 0 where it has none
    f: float  # the harmonic mean of both, 0 where nothing is common


def words(text: str, stem: Stem | None = None) -> list[str]:
    """Return the words of a text: runs of letters and digits, in lower case; those of four letters or more stemmed."""
    found = WORD.findall(text.lower())
    return found if stem is None else [stem(word) if len(word) > LONGEST_UNSTEMMED else word for word in found]


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Return the length of the longest sequence that both hold in order, with gaps."""
    places: dict[str, int] = {}
    for place, word in enumerate(first):
        places[word] = places.get(word, 0) | 1 << place
    everything = (1 << len(first)) - 1
    unmatched = everything
    for word in second:
        here = unmatched & places.get(word, 0)
        unmatched = ((unmatched + here) | (unmatched - here)) & everything
    return len(first) - unmatched.bit_count()


def rouge_l(generated: str, true: str, *, stem: Stem | None = None) -> RougeL:
    """Return ROUGE-L of a generated text against the true one, of words as they are or as `stem` makes them.

    Raises ValueError where the true text has no word: there would be nothing to recall. Source: Lin 2004, eq. 2-4.
    """
    found, wanted = words(generated, stem), words(true, stem)
    if not wanted:
        raise ValueError(
            f"The true text {true!r} has no word, so no share of it can be recalled. Leave the example out."
        )
    common = longest_common_subsequence(wanted, found)
    recall, precision = common / len(wanted), common / len(found) if found else 0.0
    return RougeL(recall, precision, 2 * recall * precision / (recall + precision) if common else 0.0)
