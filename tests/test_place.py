"""Where a command finds the store: as said, else WEFT_STORE, else the settings file, else in this folder."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import dedent

import pytest
import typer

from tests.test_cli import Shell
from weft.cli.app import app

POINT = ["-i", 'point={"x": 1}']
COMMANDS = {
    "run": ["shop.py:add", *POINT],
    "resume": ["--all"],
    "fork": ["x", "--at", "1"],
    "cancel": ["x"],
    "send": ["x", "answers", "1"],
    "signal": ["x", "pause"],
    "submit": ["shop.py:add", *POINT],
    "worker": ["shop.py"],
    "ps": [],
    "show": ["x"],
    "diff": ["x", "y"],
    "explain": ["x"],
    "logs": ["x"],
    "query": ["select 1"],
    "web": [],
    "replay-load": ["load.jsonl"],
    "export": ["x"],
    "gc": ["--older-than", "1d"],
    "inbox": [],
    "answer": ["x", "yes"],
    "revoke": ["x", "1"],
    "top": ["--once"],
    "chat": [],
    "serve-mcp": ["shop.py"],
}
"""Words with which each command comes to open the store."""


@pytest.fixture
def here(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


def ids(here: Shell, *words: str) -> list[str]:
    return [row["id"] for row in here.json("ps", *words)]


def test_every_command_asks_the_settings_file(here: Shell) -> None:
    (here.folder / "weft.toml").write_text('store = "nosuch://place"')
    (here.folder / "load.jsonl").write_text("")
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    stores = {name for name, command in commands.items() if "store" in {option.name for option in command.params}}
    assert stores == COMMANDS.keys() | {"doctor"}, "a new command: say above how it comes to its store"
    for name, (code, said) in zip(COMMANDS, together(here, COMMANDS), strict=True):
        assert code == 4 and "there is no store for 'nosuch://place'" in said, name
    assert not (here.folder / ".weft").exists()


def together(here: Shell, commands: Mapping[str, Sequence[str]]) -> list[tuple[int, str]]:
    """Exit codes and stderr of commands, one after the other in one process."""
    code = """
        import json, sys
        from typer.testing import CliRunner
        from weft.cli.app import app
        done = [CliRunner().invoke(app, words) for words in json.loads(sys.argv[1])]
        print(json.dumps([(one.exit_code, one.stderr) for one in done]))
    """
    words = [sys.executable, "-c", dedent(code), json.dumps([[name, *words] for name, words in commands.items()])]
    done = subprocess.run(words, cwd=here.folder, env=here.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    found: list[tuple[int, str]] = json.loads(done.stdout)
    return found


def test_doctor_asks_the_settings_file(here: Shell) -> None:
    (here.folder / "weft.toml").write_text('store = "postgresql://u@127.0.0.1:1/x"')
    assert "127.0.0.1:1" in here("doctor")


def test_what_is_nearer_counts(here: Shell) -> None:
    """The store in this folder, in pyproject.toml, in weft.toml, in the environment, on the command line."""

    def only_run_is_in(file: str, *words: str) -> None:
        run = here.json("run", "shop.py:add", *POINT, *words)["run"]
        assert ids(here, *words) == [run] and (here.folder / file).exists()

    only_run_is_in(".weft/journal.db")
    (here.folder / "pyproject.toml").write_text('[tool.weft]\nstore = "project.db"')
    only_run_is_in("project.db")
    (here.folder / "weft.toml").write_text('store = "file.db"')
    only_run_is_in("file.db")
    here.environment["WEFT_STORE"] = "elsewhere/../named.db"
    (here.folder / "elsewhere").mkdir()
    only_run_is_in("named.db")
    only_run_is_in("said.db", "--store", "sqlite:///said.db")


def test_a_server_is_a_store_like_any_other(here: Shell, postgres_url: str) -> None:
    run = here.json("run", "shop.py:add", *POINT, "--store", postgres_url)["run"]
    assert ids(here, "--store", postgres_url) == [run]
    assert here.json("show", run, "--store", postgres_url)["state"] == "done"
    (here.folder / "weft.toml").write_text(f'store = "{postgres_url}"')
    assert here.json("show", run)["state"] == "done"
    again = here.json("fork", run, "--at", "1")["run"]
    assert ids(here) == [again, run]
    assert here.log() == ["add 1"] * 2
    assert not (here.folder / ".weft").exists()
