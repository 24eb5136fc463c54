"""git as agents look at it: what differs, and nothing that the repository would have run or shown besides."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path
from typing import Any

import pytest

import weft
from weft.core.errors import Denied, GitError
from weft.tool import git


@pytest.fixture
def repo(workspace: Path) -> Path:
    (workspace / "docs").mkdir()
    (workspace / "docs" / "a b.txt").write_text("old\n")
    (workspace / "key.txt").write_text("old key\n")
    (workspace / "gone.txt").write_text("gone\n")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "first")):
        run("-c", "user.name=t", "-c", "user.email=t@example.invalid", *words, at=workspace)
    (workspace / "docs" / "a b.txt").write_text("new\n")
    (workspace / "gone.txt").unlink()
    (workspace / "fresh.txt").write_text("fresh\n")
    return workspace


def run(*words: str, at: Path) -> None:
    subprocess.run(["git", *words], cwd=at, check=True, capture_output=True)


def test_what_differs_is_told_file_by_file(repo: Path) -> None:
    assert asyncio.run(git.status(repo)) == [
        git.Change("docs/a b.txt", " ", "M"),
        git.Change("gone.txt", " ", "D"),
        git.Change("fresh.txt", "?", "?"),
    ]
    shown = asyncio.run(git.diff(repo))
    assert "-old\n+new\n" in shown and "-gone\n" in shown and "fresh" not in shown
    assert "gone" not in asyncio.run(git.diff(repo, paths=["docs/a b.txt"]))
    assert asyncio.run(git.diff(repo, paths=["fresh.txt"])) == ""


def test_a_name_is_a_name_and_no_option_or_pattern(repo: Path) -> None:
    assert asyncio.run(git.diff(repo, paths=["--output=stolen.txt", "*", ":(exclude)key.txt"])) == ""
    assert not (repo / "stolen.txt").exists()


@pytest.mark.parametrize("key", ["filter.mine.clean", "filter.mine.process"])
def test_a_repository_that_runs_programs_on_its_files_is_not_looked_at(repo: Path, key: str) -> None:
    run("config", key, "touch ran.txt; cat", at=repo)
    (repo / ".gitattributes").write_text("* filter=mine\n")
    for look in (git.status, git.diff):
        with pytest.raises(GitError, match=f"names a program that git would run .{key}"):
            asyncio.run(look(repo))
    assert not (repo / "ran.txt").exists()


@weft.workflow(name="git.looks")
async def looks(paths: list[str]) -> Any:
    try:
        return await git.diff(".", paths=paths)
    except Denied as refused:
        return [refused.action, Path(refused.resource).name]


def test_a_difference_shows_only_what_may_be_read(repo: Path) -> None:
    (repo / "key.txt").write_text("new key\n")
    rights = ("step:**", f"read:{repo}/.", "read:./.git", "read:./docs")
    store = repo.parent / "journal.db"

    async def main() -> None:
        async with weft.Runtime(store, policy=weft.Policy(base="none", allow=rights, workspace=str(repo))) as runtime:
            assert "+new\n" in await runtime.run(looks, ["docs/a b.txt"])
            assert await runtime.run(looks, ["key.txt"]) == ["file.read", "key.txt"]
            assert await runtime.run(looks, []) == ["file.read", "gone.txt"]

    asyncio.run(main())
