"""The model card of a model that was made to forget: the source's own, and below it what was done.

It is what people read first of a model, so it says how many records went, how, and what the evidence says; never which.
"""

from datetime import UTC, datetime
from pathlib import Path

from nablatau.hf.pretrained import Pretrained
from nablatau.results import Evaluation, Forgotten

CARD_NAME = "README.md"
HEADING = "## Forgotten records"


def card(pretrained: Pretrained, result: Forgotten, evaluation: Evaluation | None) -> str:
    """The card as Markdown.

    Args:
        pretrained: whose own card is kept as it is.
        result: with its record.
        evaluation: for the verdict; without one the card says that there was none.
    """
    own = pretrained.folder / CARD_NAME
    above = own.read_text(encoding="utf-8").rstrip() if own.is_file() else _head(pretrained.source)
    return f"{above}\n\n{_section(pretrained.source, result, evaluation)}"


def _head(source: str) -> str:
    """A card for a model that has none; the hub links a model of its own to the one it was made from."""
    if Path(source).exists():
        return f"# {Path(source).resolve().name}, some records forgotten"
    return f"---\nbase_model: {source}\n---\n\n# {source}, some records forgotten"


def _section(source: str, result: Forgotten, evaluation: Evaluation | None) -> str:
    record, today = result.record, datetime.now(UTC).date().isoformat()
    known = ("nablatau", "torch", "transformers", "tokenizers", "peft", "python")
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in known if name in record["versions"])
    settings = ", ".join(f"{name} {value}" for name, value in record["method"].items() if name != "method")
    lines = [
        HEADING,
        "",
        f"On {today} this model was made from `{Path(source).name if Path(source).exists() else source}` by forgetting "
        f"{result.forgotten:,} of the {result.request.training_size:,} records that it was trained on.",
        "",
        f"- Method: `{record['method']['method']}` ({settings}), seed {record['seed']}.",
        f"- Verdict: {evaluation.verdict.sentence if evaluation else 'none, the model was not evaluated.'}",
        f"- Versions: {versions}.",
        "",
        "`run.json` holds settings, hashes and every number, `report.html` shows them. A verdict states what was "
        "tested; it is no proof that nothing is left. Whoever has the file `ids.salt` can test whether an id is among "
        "those forgotten: keep it apart from the model.",
    ]
    return "\n".join(lines) + "\n"
