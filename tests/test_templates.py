"""Lines become templates: variables keep category and value, memory is bounded, folding loses nothing that matters."""

from __future__ import annotations

import logging
import random
import re
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import weft
from benchmarks.trace.chatter import captured
from tests.programs import drive
from weft.cli.trace import traces
from weft.core.errors import BadInput
from weft.core.lines import CATEGORIES, Folder, Tagger, Templates, Value, fold
from weft.core.lines.content import contents
from weft.core.lines.fold import says
from weft.core.lines.words import split
from weft.store import Store
from weft.tool import ToolCall, tool
from weft.tool.folding import folded
from weft.trace.templates import outputs
from weft.trace.templates.corpus import made


def test_a_variable_keeps_its_category_and_its_value() -> None:
    line = Templates().parse("Sent block blk_38865 to /10.251.91.84 in 12 ms")
    assert line.template.text == "Sent block <*> to <*> in <*> ms"
    assert line.template.shown == "Sent block <OID> to <LOI> in <TDA> ms"
    assert line.values == [Value("OID", "blk_38865"), Value("LOI", "/10.251.91.84"), Value("TDA", "12")]
    assert line.shown(keep={"TDA"}) == "Sent block <*> to <*> in 12 ms"
    assert line.shown() == "Sent block blk_38865 to /10.251.91.84 in 12 ms"


def test_values_joined_by_commas_are_one() -> None:
    line = Templates().parse("values 10,20,30")
    assert line.template.text == "values <*>" and [value.text for value in line.values] == ["10,20,30"]


def test_lists_of_things_alike_and_values_that_are_not_there_are_variables() -> None:
    templates = Templates()
    line = templates.parse("plugins: mock-3.15.1, betamax-0.9.0, asyncio-1.3.0, cov-7.0.0, anyio-4.12.1")
    assert line.template.text == "plugins: <*>, <*>, <*>, <*>, <*>"
    texts = {templates.parse(f"Retry(total={n}, read={n or None})").template.text for n in range(3)}
    assert texts == {"Retry(total=<*>, read=<*>)"}
    assert templates.parse("Writing 'glyf' table to disk").template.text == "Writing '<*>' table to disk"


def test_names_that_no_tagger_knows_become_one_variable_when_many_have_stood_there() -> None:
    templates = Templates()
    names = ["apple", "pear", "plum", "cherry", "fig", "grape", "lemon", "melon", "quince", "mango", "papaya", "olive"]
    first, *_ = [templates.parse(f"basket of {name} reached the green shop") for name in names]
    assert first.template.text == "basket of <*> reached the green shop"
    assert first.template.count == len(names)
    assert [value.text for value in first.values] == ["apple"]  # a line read before the merge has its value, too
    assert len(list(templates)) == 1


def test_words_of_which_there_are_few_stay_templates_of_their_own() -> None:
    templates = Templates()
    lines = [templates.parse(f"disk check {state} on rack 7") for state in ("passed", "failed", "skipped") * 50]
    assert len({line.template.text for line in lines}) == 3


def test_two_places_can_become_variables() -> None:
    templates, dice = Templates(), random.Random(4)
    words = ["".join(dice.choices("abcdefghijklmnop", k=6)) for _ in range(40)]
    lines = [
        templates.parse(f"basket of {dice.choice(words)} reached the {dice.choice(words)} shop") for _ in range(600)
    ]
    assert len({line.template.text for line in lines[-100:]}) == 1


def test_memory_is_bounded() -> None:
    templates = Templates(most=50)
    for number in range(2_000):
        templates.parse(" ".join(["word" * (number % 37 + 1)] * (number % 61 + 2)))
    assert len(list(templates)) <= 50


@given(st.text(max_size=300) | st.text("a1,/ .:=", max_size=40))
@settings(max_examples=400, deadline=None)
def test_any_text_is_a_line(text: str) -> None:
    line = Templates().parse(text)
    assert line.shown() == " ".join(text.split()) == "".join(split(text))
    assert len(line.values) == line.template.text.count("<*>") or "<*>" in text


LINES = st.one_of(
    st.sampled_from([
        "Collecting left-pad", "Collecting right-pad", "error: /a/b.c:3: bad thing", "error: /a/c.c:3: bad thing",
        "exit status 0", "exit status 137", "exit code 137", "12 passed in 0.31s", "1 failed, 11 passed in 0.30s", "",
        "Downloading wheel-1.2.tar.gz (12 kB)", "\x1b[31mERROR\x1b[0m no such file /x/y.py", "=" * 40, "src/a.py",
        "a, 7, 9",
        'File "/lib/python/site.py", line 12, in main', 'File "/lib/python/site.py", line 13, in main', "job 4 failed",
        "job 5 done", "@@ -1,3 +1,4 @@ def f():", "+    return 10", "     return 10",
        "plugins: a-1.2.0, b-2.0.1, c-0.1.9", "GET /x HTTP/1.1 404", "GET /y HTTP/1.1 200",
        "[... lines 3 to 9 left out ...]",
    ]),
    st.integers(0, 10_000).map(lambda seed: "".join(piece for piece, _ in next(iter(made(1, seed))))),
    st.integers(1, 9).map(lambda at: f"     {at}\tx = {at % 2}"),
)  # fmt: skip
PATH = re.compile(r"(?<![\w./-])/[\w./-]*\w(?::\d+)?")
STATUS = re.compile(r"(?:exit (?:status|code)|HTTP/[\d.]+) (\d+)$")


@given(st.lists(st.lists(LINES, max_size=25), max_size=4))
@settings(max_examples=150, deadline=None)
def test_folding_loses_no_line_no_template_no_status_and_no_place_of_an_error(texts: list[list[str]]) -> None:
    folder, shown, before = Folder(), list[str](), set[str]()
    for lines in texts:
        text = "\n".join(lines)
        folded = folder.fold(text)
        assert len(folded) <= len(text)
        if folded == text:
            shown += map(cleaned, text.splitlines())
            before |= set(lines)
            continue
        mine = folded.splitlines()
        shown += map(cleaned, mine)
        assert counted(mine) == sum(bool(one.strip()) for one in text.splitlines())
        for line, content in zip(lines, contents(lines), strict=True):
            plain = cleaned(line)
            if not plain:
                continue
            if content:
                assert line in mine or (line in before and "again" in mine[-1])
                continue
            template, *told = says(Templates().parse(plain), plain)
            words = [word for part in template.split("<*>") for word in split(part) if word != " "]
            pattern = re.compile(".*?".join(map(re.escape, words)))
            assert any(pattern.search(one) and all(part in one for part in told) for one in shown), line
            for status in STATUS.findall(line):  # as a person finds them, whatever the tagger says
                assert any(re.search(rf"\b{status}\b", one) for one in mine), line
            if "error" in line.lower() or "File" in line:
                assert all(any(path in one for one in shown) for path in PATH.findall(plain)), line
        before |= set(lines)


def cleaned(line: str) -> str:
    """As folding writes it: no colours, single spaces, short rules."""
    return re.sub(r"([^\w\s])\1{3,}", r"\1\1\1", " ".join(re.sub(r"\x1b\[\d*m", "", line).split()))


def counted(folded: list[str]) -> int:
    """The lines that a folded text stands for."""
    total = 0
    for one in folded:
        if again := re.fullmatch(r"… (\d+) again(?:, \d+ errors?)?", one):
            total += int(again[1])
        elif times := re.search(r"  ×(\d+)$", one):
            total += int(times[1])
        else:
            total += bool(one.strip())
    return total


def test_a_folder_counts_what_it_showed_before() -> None:
    folder = Folder()
    output = "\n".join(f"Copied /var/data/{name}.json to /mnt/backup" for name in ("a", "b", "c"))
    assert folder.fold(output) == "Copied * to *  ×3"
    assert folder.fold(output) == "… 3 again"
    assert "exit code 3" in folder.fold(output + "\nexit code 3")
    folder.forget()
    assert folder.fold(output) == "Copied * to *  ×3"
    assert fold("short") == "short"


def test_a_folded_text_says_what_is_different_from_the_last_time() -> None:
    folder, head = Folder(), "platform linux -- Python 3.12.3\nrootdir: /testbed\ncachedir: .pytest_cache\n"
    assert folder.fold(f"{head}collected 12 items\n12 passed in 0.31s\nexit status 0").endswith("exit status 0")
    assert folder.fold(f"{head}collected 13 items\n13 passed in 0.30s\nexit status 0") == (
        "collected 13 items\n13 passed in 0.30s\nexit status 0\n… 3 again"
    )
    failed = f"{head}collected 13 items\nFAILED tests/test_a.py::test_b\nexit status 1"
    assert "FAILED tests/test_a.py::test_b\nexit status 1" in folder.fold(failed)
    assert folder.fold(failed) == "exit status 1\n… 5 again, 1 error"


def test_values_that_differ_are_told_from_the_least_to_the_most() -> None:
    lines = [f"worker {n} sent {n * 7} files to /data/{n}.db" for n in (3, 1, 29)]
    assert fold("\n".join(lines)) == "worker * sent 7…203 files to *  ×3"


def test_content_stays_as_it_is() -> None:
    numbered = "\n".join(f"{n:6}\tx = compute({n}, 'a')" for n in range(1, 9))
    patch = "@@ -1,3 +1,3 @@\n def f():\n-    return 10\n+    return 12"
    folder = Folder()
    assert folder.fold(numbered) == numbered
    assert folder.fold(numbered) == "… 8 again"
    changed = numbered.replace("compute(3", "compute(4")
    assert folder.fold(changed) == changed  # in part, it would be hard to read
    assert fold(f"{patch}\n{patch[16:]}") == f"{patch}\n{patch[16:]}"  # a line that is there twice is there twice
    assert folder.fold(f"header\n{patch}") == f"header\n{patch}"
    assert folder.fold(f"header\n{patch}") == "… 5 again"
    note = "[... 9,000 bytes, lines 3 to 90 of 99, left out; output.read('0a1b2c3d4e5f6071', 3) shows them ...]"
    assert note in fold("\n".join(["Collecting a-1", "Collecting b-2", "Collecting c-3", note, "Collecting d-4"]))


def test_progress_and_colours_are_no_lines_of_their_own() -> None:
    bar = "".join(f"\r  {'━' * n}╸{'━' * (40 - n)} {n / 3:.1f}/13.2 MB 5.5 MB/s eta 0:00:09" for n in range(1, 40))
    assert fold(bar) == "  ━╸━━━ * MB * MB/s eta 0:00:09  ×39"
    assert fold("\x1b[32mok\x1b[0m one\n\x1b[32mok\x1b[0m one") == "ok one  ×2"


def test_what_a_folder_remembers_is_bounded() -> None:
    folder = Folder(most=3)
    texts = ["a first line of words", "a second line of words", "a third line of words", "a fourth line of words"]
    for text in texts:
        folder.fold(text)
    assert folder.fold(texts[-1]) == "… 1 again"
    assert folder.fold(texts[0]).startswith("a first line")  # forgotten, so it is shown
    with pytest.raises(BadInput, match="from 1 up"):
        Folder(most=0)


def test_bad_input_says_what_to_give() -> None:
    with pytest.raises(BadInput, match="from 1 up"):
        Templates(most=0)
    with pytest.raises(BadInput, match=r"XYZ.*OID"):
        Folder(keep=["XYZ"])
    with pytest.raises(BadInput, match="OID"):
        Templates().parse("a 1").shown(keep={"XYZ"})
    with pytest.raises(BadInput, match="train it again"):
        Tagger([0])


def test_the_tagger_knows_made_up_lines_that_it_was_not_trained_on() -> None:
    from weft.core.lines import tagger

    right = total = 0
    for line in made(300, seed=99):
        for place, category, sure in tagger().tags([piece for piece, _ in line]):
            total += 1
            right += (category if sure >= 0.5 else "") == line[place][1]
    assert right / total >= 0.97


def test_the_truth_about_a_logged_line_is_its_format_string() -> None:
    def work() -> None:
        log = logging.getLogger("chatter.test")
        log.setLevel(logging.DEBUG)
        log.debug("took %.3fs to %s (100%%)", 1.5, "build")
        log.debug("ready")
        for made_before in ("copied 1 file", "copied 2 files"):
            log.debug(made_before)
        log.debug("%s", "nothing of it is static")

    assert list(captured(work)) == [("took 1.500s to build (100%)", "took <*>s to <*> (100%)"), ("ready", "ready")]


def test_training_gives_a_tagger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("numpy")
    from array import array

    from weft.trace.templates import train

    monkeypatch.setattr("sys.argv", ["train", str(tmp_path / "small.bin"), "--lines", "300"])
    train.main()
    assert "tagged right" in capsys.readouterr().out
    data = (tmp_path / "small.bin").read_bytes()
    assert len(data) <= 2_000_000
    line = Templates(by=Tagger(array("b", data))).parse("Connection from 10.0.0.7 port 22 closed")
    assert line.template.text == "Connection from <*> port <*> closed"


@weft.step
async def listed(folder: str) -> dict[str, object]:
    if folder == "/none":
        raise FileNotFoundError("no such folder /none")
    return {"out": f"found {len(folder)} files in {folder}\nexit status 0", "parts": [folder]}


@weft.workflow
async def tidy() -> int:
    for folder in ("/a/b", "/a/c/d", "/none"):
        with suppress(FileNotFoundError):
            await listed(folder)
    return 2


def test_outputs_of_a_run(store: Store) -> None:
    async def use(runtime: weft.Runtime) -> tuple[list[str], str]:
        run = await runtime.start(tidy)
        await run.result()
        return [text async for text in outputs(runtime.store, run.id)], run.id

    found, _ = drive(store, use)
    assert found == [
        "found 4 files in /a/b\nexit status 0", "/a/b", "found 6 files in /a/c/d\nexit status 0", "/a/c/d",
        "FileNotFoundError: no such folder /none",
    ]  # fmt: skip


@tool
def install(count: int) -> str:
    """Install.

    Args:
        count: How many.
    """
    lines = [f"Downloading part_{one}.tar.gz ({one * 7} kB)" for one in range(count)]
    return "\n".join([*lines, "error: /src/a.c:3: no such file", "exit status 2"])


@weft.workflow
async def installs() -> list[str]:
    short = install.options(after=[folded])
    calls = [ToolCall(id="c", name="install", arguments={"count": count}) for count in (40, 1)]
    return [(await short.call(call)).text for call in calls]


def test_a_tool_s_result_is_folded_before_a_model_reads_it(store: Store) -> None:
    async def use(runtime: weft.Runtime) -> list[str]:
        return await (await runtime.start(installs)).result()

    long, short = drive(store, use)
    assert "  ×40" in long and "error: /src/a.c:3: no such file" in long and "exit status 2" in long
    assert len(long) < 300 and "left out" in long
    assert short.startswith("Downloading part_0.tar.gz (0 kB)\n")  # nothing to win


def test_the_command_tells_templates_and_folds(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(f"worker {n} sent {n * 7} files to /data/{n}.db\n" for n in range(1, 30)))
    runner = CliRunner()
    told = runner.invoke(traces, ["templates", str(log)])
    assert told.exit_code == 0 and "29  worker <OID> sent <OBA> files to <LOI>" in told.stdout
    kept = runner.invoke(traces, ["templates", str(log), "--keep", "OBA"])
    assert kept.stdout.splitlines()[0] == "worker <*> sent 7 files to <*>"
    assert (
        runner.invoke(traces, ["templates", str(log), "--fold"]).stdout.strip() == "worker * sent 7…203 files to *  ×29"
    )
    missing = runner.invoke(traces, ["templates", "./none.log"])
    assert missing.exit_code != 0
    assert "CRS" in CATEGORIES and len(CATEGORIES) == 10
