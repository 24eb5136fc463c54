"""Lines become templates: variables keep category and value, memory is bounded, folding loses nothing that matters."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import weft
from tests.programs import drive
from weft.cli.trace import traces
from weft.core.errors import BadInput
from weft.core.lines import CATEGORIES, Folder, Tagger, Templates, Value, fold
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


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_line(text: str) -> None:
    line = Templates().parse(text)
    assert line.shown() == " ".join(text.split()) == "".join(split(text))
    assert len(line.values) == line.template.text.count("<*>") or "<*>" in text


@given(st.lists(st.sampled_from([
    "Collecting left-pad", "Collecting right-pad", "error: /a/b.c:3: bad thing", "error: /a/c.c:3: bad thing",
    "exit status 0", "exit status 137", "12 passed in 0.31s", "", "Downloading wheel-1.2.tar.gz (12 kB)",
]), max_size=30))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_folded_text_shows_each_template_each_status_and_each_place_of_an_error(lines: list[str]) -> None:
    text, templates = "\n".join(lines), Templates()
    folded = Folder(templates=templates).fold(text)
    assert len(folded) <= len(text)
    for line in filter(None, lines):
        template, *told = says(Templates().parse(line), line)
        assert template.split("<*>")[0].strip() in folded
        assert all(one in folded for one in told)


def test_a_folder_counts_what_it_showed_before() -> None:
    folder = Folder()
    output = "\n".join(f"Copied /var/data/{name}.json to /mnt/backup" for name in ("a", "b", "c"))
    assert folder.fold(output) == "Copied * to *  [×3]"
    assert folder.fold(output) == "[3 as before]"
    assert "exit code 3" in folder.fold(output + "\nexit code 3")
    assert fold("short") == "short"


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
    assert "[×40]" in long and "error: /src/a.c:3: no such file" in long and "exit status 2" in long
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
        runner.invoke(traces, ["templates", str(log), "--fold"]).stdout.strip() == "worker * sent 7 files to *  [×29]"
    )
    missing = runner.invoke(traces, ["templates", "./none.log"])
    assert missing.exit_code != 0
    assert "CRS" in CATEGORIES and len(CATEGORIES) == 10
