"""The model of shared memory, in small: every level against every anomaly, and faults that TLC has to find."""

from __future__ import annotations

import pytest

from verify import tlc
from verify.bounds import SMALL
from verify.model import Finding, answers, faults, matrix
from verify.mutants import MUTANTS

pytestmark = pytest.mark.usefixtures("model_checker")


def deviations(findings: list[Finding]) -> list[str]:
    return [f"{one.question.name}: {one.found}, not {one.question.expected}" for one in findings if not one.right]


def test_every_level_excludes_what_it_says_and_nothing_more() -> None:
    findings = list(answers(matrix(SMALL)))
    assert deviations(findings) == []
    cells = {cell for finding in findings for cell in finding.question.cells}
    assert cells == {f"L{level} {anomaly}" for level in range(5) for anomaly in ("A1", "A2", "A3", "A6")}


def test_faults_are_found() -> None:
    findings = list(answers(faults()))
    assert deviations(findings) == []
    assert len(findings) == len(MUTANTS)


def test_a_model_that_tlc_cannot_judge_is_no_verdict() -> None:
    with pytest.raises(tlc.Broken, match="Unknown operator: `Absurd'"):
        tlc.check("---- MODULE wrong ----\nVARIABLE x\nSpec == Absurd\n====", "SPECIFICATION Spec\n")
