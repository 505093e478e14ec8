"""The meta-test: known-bad models are flagged, a retrained one is not, and without power nothing is claimed."""

from dataclasses import replace

import pytest

import nablatau
from nablatau.selftest import audit_the_audit
from nablatau.tasks import TASKS, digits


@pytest.mark.timeout(280)
def test_known_bad_models_are_flagged_and_known_good_ones_are_not() -> None:
    found = {each.name: each for each in audit_the_audit(TASKS["digits_noisy"], seeds=2)}
    assert found["retrained"].flagged.value == 0
    assert found["identity"].words == {"LEAK DETECTED": 2}
    for name in ("constant", "relabelled", "wrecked"):
        assert found[name].flagged.value == 1, name
    assert set(found["ascended"].words) <= {"RECOVERABLE", "LEAK DETECTED", "OVER-FORGETTING", "UTILITY LOST"}
    assert found["fine-tuned"].words == {"LEAK DETECTED": 2}
    assert all(each.as_expected for each in found.values())


def test_where_the_original_remembers_nothing_there_is_no_power() -> None:
    """One short epoch: forgotten records look like unseen ones before anything was done."""
    project = digits()
    assert project.recipe is not None
    project = replace(project, recipe=replace(project.recipe, epochs=2)).trained(0)
    request = project.data.forget_fraction(0.3)
    evaluation = nablatau.evaluate(
        project.model, project.model, request, project.objective, recipe=project.recipe, test_set=project.test_set
    )
    assert evaluation.verdict.word == "NO POWER"
    assert evaluation.verdict.word.exit_code == 15
