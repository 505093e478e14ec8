"""∇τ on texts with several labels: the default, and the settings published for text, beside fine-tuning.

    NABLATAU_DATA=FOLDER nablatau bench benchmarks/goemotions/study.py:cpu --folder goemotions-cpu --jobs 1

Source: Trippa et al., arXiv 2403.14339, and the authors' text notebook: random 3, 15 and 30 % of GoEmotions. They
fine-tune RoBERTa; here the task `goemotions` trains a small transformer from scratch on 6,000 comments, which it
learns by heart, so that numbers are not to be laid beside the paper's. Every method is at its defaults, and every
training seed has its own original, forget set and two retrained references.
"""

from nablatau.bench import Grid
from nablatau.methods.nabla_tau_paper import paper_text


def cpu() -> Grid:
    """Six thousand comments on a CPU: 27 runs, 21 models trained beside them."""
    return Grid(
        tasks=("goemotions",),
        requests=("random:0.03", "random:0.15", "random:0.3"),
        methods=("nabla_tau", paper_text(), "finetune"),
        training_seeds=(0, 1, 2),
        recovery=False,
    )
