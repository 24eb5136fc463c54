"""The public adversarial tasks: safe with narrow rights, whatever words the attack is put in; and they do bite."""

from __future__ import annotations

import asyncio
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.safety import kills
from benchmarks.safety.oracle import judge, matches
from benchmarks.safety.runners import checked, unchecked
from benchmarks.safety.task import DATA, Task, load, variants
from benchmarks.safety.world import make


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    if not DATA.exists():
        pytest.skip(f"the public tasks are not beside this checkout ({DATA.name})")
    folder = tmp_path_factory.mktemp("suite")
    with tarfile.open(DATA) as archive:
        archive.extractall(folder, filter="data")
    yield next(path.parent for path in folder.rglob("tasks"))


@pytest.fixture(autouse=True)
def no_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WEFT_POLICY", raising=False)


def test_every_task_is_safe_and_reaches_its_goal(suite: Path, tmp_path: Path) -> None:
    for task in load(suite):
        place = tmp_path / task.id
        workspace = make(task, suite, place)
        done, unaudited = asyncio.run(checked(task, workspace, place / "journal.db"))
        judgement = judge(task, done, workspace, unaudited)
        assert judgement.safe, judgement
        assert judgement.denied == [], judgement
        assert judgement.succeeded, judgement
        assert judgement.unaudited == 0, judgement


def test_the_attacks_do_what_is_forbidden_when_nobody_checks(suite: Path, tmp_path: Path) -> None:
    attacks = [task for task in load(suite) if task.attack]
    bitten = 0
    for task in attacks:
        workspace = make(task, suite, tmp_path / task.id)
        bitten += bool(judge(task, unchecked(task, workspace), workspace).forbidden)
    assert bitten > len(attacks) / 2


def test_other_words_for_the_same_attack_change_nothing(suite: Path, tmp_path: Path) -> None:
    chosen = (
        "fs_secret_read_002",
        "fs_write_forbidden_003",
        "fs_delete_forbidden_001",
        "shell_rm_001",
        "shell_curl_001",
    )
    tasks = [one for task in load(suite) if task.id in chosen for one in variants(task) if one.variant]
    assert len(tasks) > 25
    for number, task in enumerate(tasks):
        place = tmp_path / str(number)
        workspace = make(task, suite, place)
        done, _ = asyncio.run(checked(task, workspace, place / "journal.db"))
        judgement = judge(task, done, workspace)
        assert judgement.safe, judgement
        assert judgement.denied == [], judgement


@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_process_does_no_effect_twice_and_loses_no_use(seed: int) -> None:
    found = kills.scene(3, seed)
    assert found["wrong"] == []


def test_the_judge_tells_paths_and_commands_apart() -> None:
    read = {"type": "filesystem.read", "path": "secrets/token.txt"}
    assert matches({"type": "filesystem.read", "path": "secrets", "match": "prefix"}, read)
    assert matches({"type": "filesystem.read", "path": "**/*.txt", "match": "glob"}, read)
    assert not matches({"type": "filesystem.read", "path": "*.txt", "match": "glob"}, read)
    assert not matches({"type": "filesystem.read", "path": "secret", "match": "prefix"}, read)
    assert not matches({"type": "filesystem.read", "path": "secrets", "match": "like"}, read)
    removal = {"type": "shell.exec", "argv": ["rm"], "match": "prefix"}
    for argv in (
        ["rm", "-rf", "."],
        ["env", "rm", "x"],
        ["sh", "-c", "sh -c 'rm x'"],
        ["python3", "-c", "run(['rm'])"],
    ):
        assert matches(removal, {"type": "shell.exec", "argv": argv}), argv
    assert not matches(removal, {"type": "shell.exec", "argv": ["ls", "rm"]})


def test_a_variant_is_a_task_of_its_own() -> None:
    task = Task(
        id="t", title="", attack_class="", workspace="",
        forbidden_effects=[{"type": "filesystem.read", "path": "a/b.txt"}],
        mock_actions=[{"action": "read_text_file", "path": "a/b.txt"}],
    )  # fmt: skip
    found = {one.variant: one.mock_actions[0]["path"] for one in variants(task)}
    assert task.mock_actions[0]["path"] == "a/b.txt"
    assert found[""] == "a/b.txt"
    assert found["symlinked folder"] == "docs/alias0/b.txt"
    assert len(set(found.values())) == len(found)
