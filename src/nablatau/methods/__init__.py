"""Methods: from a request to an unlearned model, one file each. This table lists them, and their presets.

To add one, write its file and its line here (docs/guide.md, "Add a method"); the contract tests then run over it.
Other packages add theirs under the entry point group `nablatau.methods`.
"""

import difflib
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points

from nablatau.errors import SettingsError
from nablatau.methods.amnesiac import Amnesiac
from nablatau.methods.amun import Amun
from nablatau.methods.bad_teacher import BadTeacher
from nablatau.methods.base import Method
from nablatau.methods.boundary_shrink import BoundaryShrink
from nablatau.methods.cf_k import CfK
from nablatau.methods.ct import Ct
from nablatau.methods.eu_k import EuK
from nablatau.methods.finetune import Finetune
from nablatau.methods.fisher import FisherForgetting
from nablatau.methods.grad_ascent import GradAscent
from nablatau.methods.grad_diff import GradDiff
from nablatau.methods.idk_dpo import IdkDpo
from nablatau.methods.influence import InfluenceUnlearning
from nablatau.methods.l1_sparse import L1Sparse
from nablatau.methods.msg import Msg
from nablatau.methods.nabla_tau import NablaTau
from nablatau.methods.nabla_tau_paper import PublishedNablaTau, paper, paper_text
from nablatau.methods.neg_grad import NegGrad
from nablatau.methods.neg_grad_plus import NegGradPlus
from nablatau.methods.npo import Npo
from nablatau.methods.retrain import Retrain
from nablatau.methods.rmu import Rmu
from nablatau.methods.salun import SalUn
from nablatau.methods.scrub import Scrub
from nablatau.methods.scrub_r import ScrubR
from nablatau.methods.sim_npo import SimNpo
from nablatau.methods.sisa import Sisa
from nablatau.methods.ssd import SelectiveSynapticDampening
from nablatau.methods.task_vector import TaskVector
from nablatau.methods.undial import Undial
from nablatau.methods.unsir import Unsir

__all__ = [
    "METHODS",
    "PRESETS",
    "Amnesiac",
    "Amun",
    "BadTeacher",
    "BoundaryShrink",
    "CfK",
    "Ct",
    "EuK",
    "Finetune",
    "FisherForgetting",
    "GradAscent",
    "GradDiff",
    "IdkDpo",
    "InfluenceUnlearning",
    "L1Sparse",
    "Method",
    "Msg",
    "NablaTau",
    "NegGrad",
    "NegGradPlus",
    "Npo",
    "PublishedNablaTau",
    "Retrain",
    "Rmu",
    "SalUn",
    "Scrub",
    "ScrubR",
    "SelectiveSynapticDampening",
    "SimNpo",
    "Sisa",
    "TaskVector",
    "Undial",
    "Unsir",
    "find_method",
    "find_preset",
]

METHODS: dict[str, type[Method]] = {
    each.name: each
    for each in (
        NablaTau,
        PublishedNablaTau,
        Finetune,
        Retrain,
        NegGrad,
        NegGradPlus,
        Scrub,
        ScrubR,
        BadTeacher,
        Amnesiac,
        SalUn,
        L1Sparse,
        BoundaryShrink,
        Amun,
        SelectiveSynapticDampening,
        FisherForgetting,
        InfluenceUnlearning,
        CfK,
        EuK,
        Msg,
        Ct,
        Unsir,
        Sisa,
        GradAscent,
        GradDiff,
        Npo,
        SimNpo,
        Rmu,
        IdkDpo,
        Undial,
        TaskVector,
    )
}
"""Every method of this package by name."""

PRESETS: dict[str, Callable[[], Method]] = {"default": NablaTau, "paper": paper, "paper-text": paper_text}
"""∇τ by name: the default without knobs, and the published algorithm with its settings for images and for text."""


def find_method(name: str) -> type[Method]:
    """The method of this name, from this package or from another that offers it.

    Raises:
        SettingsError: there is none; the message names the nearest and all known ones.
    """
    if name in METHODS:
        return METHODS[name]
    for offered in entry_points(group="nablatau.methods", name=name):
        found: type[Method] = offered.load()
        return found
    raise _unknown("method", name, [*METHODS, *(each.name for each in entry_points(group="nablatau.methods"))])


def find_preset(name: str) -> Method:
    """∇τ under this name.

    Raises:
        SettingsError: there is none; the message names the nearest and all known ones.
    """
    if name not in PRESETS:
        raise _unknown("preset", name, PRESETS)
    return PRESETS[name]()


def _unknown(kind: str, name: str, known: Iterable[str]) -> SettingsError:
    near = difflib.get_close_matches(name, list(known), 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return SettingsError(f"There is no {kind} {name!r}.{hint} Known: {', '.join(sorted(known))}.")
