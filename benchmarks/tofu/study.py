"""TOFU on the small Llama: original, retrained, ∇τ, grad_diff and npo, by the scores of language models with intervals.

    NABLATAU_DATA=FOLDER python benchmarks/tofu/study.py RUNS [--task tofu_small] [--request forget10] [--seeds 2]
    python benchmarks/tofu/study.py RUNS --table

A seed trains its own original and two models on the retained authors alone: "reference", which the scores compare with,
and "retrained", which is scored as though it had been unlearned. Weights, what each model says of each question, and
its scores are kept in RUNS, a folder a seed; what is there is not made again, but for the scores that follow from what
a model said, which cost seconds and are made by the definitions of the day.

Unseen questions are the evaluation's half of the held-out authors and the test set: no method saw either. Settings are
the methods' own, but for the rate of grad_diff and npo: theirs, 1e-5, is for billions of weights and moves these hardly
at all; here it is a third of the rate that the model was trained with. Nothing was tuned on any score.

Two checks must hold in each seed, or the table means nothing: the retrained model passes every score as unlearned, and
the original does not.
"""

import argparse
import copy
import json
import time
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import transformers
from torch import nn

import nablatau
from nablatau.answers import AnswerScores, min_k_plus_plus_scores, read_answers, write_answers
from nablatau.checkpoints import load_weights, save_weights
from nablatau.contrasts import contrasts, relearn_index
from nablatau.hf.questions import Question, language_scores
from nablatau.methods import find_preset
from nablatau.methods.grad_diff import GradDiff
from nablatau.methods.npo import Npo
from nablatau.metrics import model_utility, truth_ratio_utilities
from nablatau.metrics.answers import Mean
from nablatau.published_scores import ratios_of, tofu_scores
from nablatau.recovery import Relearning, recover_by_rounding, relearn
from nablatau.statistics import Interval, auc_delong, mean_interval
from nablatau.tasks import find_task
from nablatau.tasks.tofu import HELD_OUT, QUESTIONS, forgotten_authors, records, tokenizer

METHODS = {
    "nabla_tau": nablatau.NablaTau(),
    "paper": find_preset("paper"),
    "paper-text": find_preset("paper-text"),
    "grad_diff": GradDiff(learning_rate=1e-3),
    "npo": Npo(learning_rate=1e-3),
}
CANDIDATES = ("original", "retrained", *METHODS)
RELEARN_STEPS = (0, 1, 2, 4, 8, 16, 32)
NEW_TOKENS = 128
SCORES_FILE = "scores.json"
MEAN: Mean = "geometric"
"""Over a question's wrong answers, in all that is made of truth ratios."""
SETS = ("forget", "retain", "real_authors", "world_facts", "unseen")
SCORES = {
    "forget_quality": "forget quality: KS distance, p",
    "retained_utility": "utility on the retained set",
    "model_utility": "model utility, real authors and world facts too",
    "truth_ratio": "forget truth ratio",
    "rouge": "forget ROUGE-L recall, not stemmed",
    "exact_memorisation": "exact memorisation",
    "extraction_strength": "extraction strength",
    "min_k_plus_plus": "Min-K++ AUC, forgotten against unseen",
    "relearning": "steps to relearn half ÷ reference's",
    "int4_gain": "AUC gained by INT4, less the reference's",
    "retain_memorisation": "exact memorisation, retained",
}


class Seed:
    """One seed: its project, request and models, kept in a folder.

    Args:
        folder: for all that is made.
        task, request: by name.
        seed: of all that is drawn.
    """

    def __init__(self, folder: Path, task: str, request: str, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.seed = folder, seed
        self.project = find_task(task)()
        self._models: dict[str, nn.Module] = {}
        self.name, self.request = request, self.project.data.forget_group(*forgotten_authors(request))

    def model(self, name: str) -> nn.Module:
        """A model, read or made."""
        if name not in self._models:
            self._models[name] = self._read_or_made(name)
        return self._models[name]

    def _read_or_made(self, name: str) -> nn.Module:
        file = self.folder / f"{name}.safetensors"
        if file.exists():
            return load_weights(copy.deepcopy(self.project.model), file)
        if name != "original":
            self.model("original")  # its own training is not a part of what follows
        began = time.perf_counter()
        made = self._made(name)
        save_weights(made, file)
        self._note(name, time.perf_counter() - began)
        return made

    def _made(self, name: str) -> nn.Module:
        if name == "original":
            return self.project.trained(self.seed).model
        method = METHODS[name] if name in METHODS else nablatau.Retrain()
        seed = {"reference": 100, "retrained": 200}.get(name, 0) + self.seed
        original, recipe = self.model("original"), self.project.recipe
        return nablatau.forget(
            original, self.request, self.project.objective, method=method, seed=seed, recipe=recipe
        ).model

    def _note(self, name: str, seconds: float) -> None:
        with (self.folder / "seconds.jsonl").open("a") as file:
            file.write(json.dumps({"model": name, "seconds": round(seconds, 1)}) + "\n")

    def answers(self, name: str) -> dict[str, list[AnswerScores]]:
        """What a model says of every set of questions."""
        for part, questions in self.questions.items():
            file = self.folder / f"{name}-{part}.jsonl"
            if not file.exists():
                new = NEW_TOKENS if part != "unseen" else 0
                said = language_scores(self.model(name), _as_pretrained(), questions, most_new_tokens=new)
                write_answers(file, said)
        return answers_in(self.folder, name)

    @property
    def questions(self) -> dict[str, list[Question]]:
        """The sets of questions, by name."""
        kept = {self.project.groups[place] for place in self.request.retain_set.positions}  # type: ignore[index]
        retained = [
            each
            for number, each in enumerate(records("retain_perturbed"))
            if f"author-{number // QUESTIONS + 1}" in kept
        ]
        unseen, half = records("holdout10"), self.request.evaluation_set
        assert half is not None
        places = [*half.positions.tolist(), *range(HELD_OUT * QUESTIONS, len(unseen))]
        return {
            "forget": _asked("forget", records(f"{self.name}_perturbed")),
            "retain": _asked("retain", retained),
            "real_authors": _asked("real", records("real_authors_perturbed")),
            "world_facts": _asked("world", records("world_facts_perturbed")),
            "unseen": _asked("unseen", [unseen[place] for place in places]),
        }

    def scores(self) -> dict[str, dict[str, Any]]:
        """Every candidate's scores."""
        if not (self.folder / SCORES_FILE).exists():
            self._write_scores()
        return scores_in(self.folder)

    def _write_scores(self) -> None:
        reference = self.answers("reference")
        found = {name: scores_of(self.answers(name), reference) for name in CANDIDATES}
        again = relearn(
            {"reference": self.model("reference")} | {name: self.model(name) for name in CANDIDATES},
            self.request,
            self.project.objective,
            seeds=(self.seed,),
            steps=RELEARN_STEPS,
        )
        rounded = self._rounded("reference")
        for name in CANDIDATES:
            found[name]["relearning"] = _relearn_index(again, name)
            found[name]["int4_gain"] = contrasts(self._rounded(name), rounded)[0].gain
        listed = {name: _listed_all(held) for name, held in found.items()}
        text = json.dumps({"truth_ratio_mean": MEAN, **listed}, indent=1)
        (self.folder / SCORES_FILE).write_text(text)

    def _rounded(self, name: str) -> Any:
        return recover_by_rounding(self.model(name), self.request, self.project.objective, bits=(4,))


def answers_in(folder: Path, name: str) -> dict[str, list[AnswerScores]]:
    """What a model said of every set of questions, from the files in a seed's folder."""
    return {part: read_answers(folder / f"{name}-{part}.jsonl") for part in SETS}


def scores_in(folder: Path) -> dict[str, dict[str, Any]]:
    """Every candidate's scores from a seed's folder: those that took training as kept, the others from the answers.

    So a folder that was filled before a definition changed gives a table of one definition.
    """
    kept, reference = json.loads((folder / SCORES_FILE).read_text()), answers_in(folder, "reference")
    return {name: kept[name] | _listed_all(scores_of(answers_in(folder, name), reference)) for name in CANDIDATES}


def scores_of(
    said: Mapping[str, Sequence[AnswerScores]], reference: Mapping[str, Sequence[AnswerScores]]
) -> dict[str, Any]:
    """The scores that follow from what a model said.

    Args:
        said: of each set of questions.
        reference: the same of the model that never saw the forgotten authors.
    """
    published = tofu_scores(
        reference_forget=reference["forget"], mean=MEAN, **{name: said[name] for name in SETS if name != "unseen"}
    )
    test, known = published.forget_quality.test, min_k_plus_plus_scores
    return {
        "forget_quality": [test.statistic, test.p_value, test.n],
        "retained_utility": model_utility([_retained(said["retain"])]),
        "model_utility": published.model_utility,
        "truth_ratio": published.forget["truth ratio"],
        "rouge": published.forget["ROUGE-L recall"],
        "exact_memorisation": _mean_of(said["forget"], "exact_memorisation"),
        "extraction_strength": _mean_of(said["forget"], "extraction_strength"),
        "min_k_plus_plus": auc_delong(known(said["forget"]), known(said["unseen"])),
        "retain_memorisation": _mean_of(said["retain"], "exact_memorisation"),
    }


def _retained(said: Sequence[AnswerScores]) -> npt.NDArray[np.float64]:
    """(N, 3) probability, ROUGE-L recall and 1 − truth ratio of the retained questions: a third of TOFU's utility.

    A model that was trained from scratch knows nothing of the other two thirds, and their harmonic mean is near 0.
    """
    columns = [[each.derived[name] for each in said] for name in ("probability", "rouge_l_recall")]
    return np.column_stack([*columns, truth_ratio_utilities(ratios_of(said, mean=MEAN))])


def _relearn_index(again: Relearning, name: str) -> Interval | None:
    """Steps until half of the gap in loss between reference and original is closed, over the reference's steps.

    None where neither closes it, which an original that remembers nothing brings about.
    """
    half = (again.losses["reference"][:, :1] + again.losses["original"][:, :1]) / 2
    reached = [bool((again.losses[each] <= half).any()) for each in (name, "reference")]
    return relearn_index(again, name, reference="reference", tolerance=0.5) if any(reached) else None


def _mean_of(said: Sequence[AnswerScores], name: str) -> Interval:
    return mean_interval([each.derived[name] for each in said])


def _listed_all(scores: Mapping[str, Any]) -> dict[str, list[float] | None]:
    return {name: _listed(value) for name, value in scores.items()}


def _listed(value: Any) -> list[float] | None:
    return [value.value, value.low, value.high, value.n] if isinstance(value, Interval) else value


def _asked(name: str, part: Sequence[dict[str, Any]]) -> list[Question]:
    return [
        Question(
            id=f"{name}-{number}",
            prompt=f"{each['question']}\n",
            answer=each["answer"],
            paraphrased=each.get("paraphrased_answer"),
            wrong=tuple(each.get("perturbed_answer", ())),
        )
        for number, each in enumerate(part)
    ]


@cache
def _as_pretrained() -> Any:
    """The task's tokenizer as transformers has them."""
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", eos_token="[END]")


# ---------------------------------------------------------------------- what came out


def checks(found: Mapping[str, Mapping[str, Sequence[float]]]) -> dict[str, bool]:
    """Whether the retrained model passes as unlearned, and the original does not.

    Args:
        found: scores by candidate.
    """
    retrained, original = found["retrained"], found["original"]
    return {
        "retrained: forget quality above 0.05": retrained["forget_quality"][1] > 0.05,
        "retrained: INT4 brings nothing back": retrained["int4_gain"][1] <= 0 <= retrained["int4_gain"][2],
        "original: forget quality below 0.001": original["forget_quality"][1] < 0.001,
        "original: extraction strength above the retrained model's": original["extraction_strength"][1]
        > retrained["extraction_strength"][2],
        "original: Min-K++ AUC above the retrained model's": original["min_k_plus_plus"][1]
        > retrained["min_k_plus_plus"][2],
    }


def table(seeds: Sequence[Mapping[str, Mapping[str, Sequence[float]]]]) -> str:
    """The scores as Markdown: a row a score, a column a model, in a cell one value with its interval a seed."""
    lines = [f"| truth ratios by the {MEAN} mean |" + "|".join(CANDIDATES) + "|", "|---|" + "---|" * len(CANDIDATES)]
    for score, title in SCORES.items():
        cells = [" · ".join(_cell(score, found[name][score]) for found in seeds) for name in CANDIDATES]
        lines.append(f"| {title} |" + "|".join(cells) + "|")
    held = [f"- seed {seed}: {what}: {yes}" for seed, found in enumerate(seeds) for what, yes in checks(found).items()]
    return "\n".join([*lines, "", *held])


def _cell(score: str, values: Sequence[float] | None) -> str:
    if values is None:
        return "not reached"
    if score == "forget_quality":
        return f"{values[0]:.2f}, {values[1]:.2g}"
    ends = ["∞" if np.isinf(each) else f"{each:.2f}" for each in values[:3]]
    return f"{ends[0]} [{ends[1]}, {ends[2]}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--task", default="tofu_small")
    parser.add_argument("--request", default="forget10")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--table", action="store_true", help="of the seeds that are there")
    given = parser.parse_args()
    if not given.table:
        for number in range(given.seeds):
            Seed(given.runs / f"seed-{number}", given.task, given.request, number).scores()
    print(table([scores_in(file.parent) for file in sorted(given.runs.glob(f"seed-*/{SCORES_FILE}"))]))


if __name__ == "__main__":
    main()
