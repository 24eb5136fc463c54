"""The example `triage`: groups of a log, what it says of itself, what a model says of the rest, what an agent finds."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parent.parent / "examples" / "triage.py"
sys.path.insert(0, str(EXAMPLE.parent))

from triage import FAILURE, NORMAL, group, level, triage  # noqa: E402

import weft  # noqa: E402
from tests.programs import drive  # noqa: E402
from weft.model import Request, script  # noqa: E402
from weft.tool import ToolCall  # noqa: E402

LOG = """\
2026-01-02 10:00:01 INFO started on port 8080
2026-01-02 10:00:02 INFO started on port 8081
2026-01-02 10:00:03 [error] disk /dev/sda1 is full
worker 3 went away
worker 4 went away
all 7 parts are there
"""


def decide(request: Request) -> str | ToolCall:
    """What the model says: of a line, and as an agent with tools."""
    words = request.messages[-1].text
    if request.tools and not request.messages[-1].results:
        assert "2 ×: worker 3 went away" in words and "disk" in words and "started" not in words
        return ToolCall(id="1", name="search_files", arguments={"pattern": "went away", "folder": "."})
    if request.tools:
        return f"The workers died: {request.messages[-1].results[0].text.count('went away')} of them."
    return '"failure"' if "went away" in words else '"normal"'


@pytest.fixture
def log(workspace: Path) -> Path:
    (workspace / "app.log").write_text(LOG)
    script(decide, name="triage")
    return workspace / "app.log"


def test_lines_that_differ_in_what_varies_are_one_group() -> None:
    groups = group(LOG.splitlines())
    assert [(count, line) for _, line, count in groups if count > 1] == [
        (2, "worker 3 went away"), (2, "2026-01-02 10:00:01 INFO started on port 8080"),
    ]  # fmt: skip
    assert len(groups) == 4
    assert len(group(["[Mon Dec 05 07:57:02 2005] [error] a 1", "[Sun Dec 04 07:57:02 2005] [error] a 2", ""])) == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [("x [error] y", FAILURE), ("FATAL: z", FAILURE), ("INFO ok", NORMAL), ("terrors of information", None)],
)
def test_a_line_is_believed_what_it_says_of_itself(line: str, said: str | None) -> None:
    assert level(line) == said


POLICY = weft.Policy(allow=("write:./TRIAGE.md", "model:**", "tool:search_files", "tool:read_file"))


def test_the_page_has_what_to_look_at_and_what_an_agent_found(log: Path) -> None:
    result = drive(str(log.parent.parent / "j.db"), lambda r: r.run(triage, "app.log", "script:triage"), policy=POLICY)
    assert (result["lines"], result["groups"], result["failures"]) == (6, 4, 2)
    page = (log.parent / "TRIAGE.md").read_text()
    assert "The workers died: 2 of them." in page
    assert page.index("went away`") < page.index("## All else") < page.index("all 7 parts")


def test_without_an_agent_nobody_looks_for_causes(log: Path) -> None:
    store = str(log.parent.parent / "j.db")
    drive(store, lambda r: r.run(triage, "app.log", "script:triage", causes=False), policy=POLICY)
    assert "What may be behind" not in (log.parent / "TRIAGE.md").read_text()


def test_a_log_that_is_not_there_is_told(workspace: Path) -> None:
    with pytest.raises(OSError, match=r"no\.log"):
        drive(str(workspace.parent / "j.db"), lambda r: r.run(triage, "no.log", "script:triage"), policy=POLICY)
