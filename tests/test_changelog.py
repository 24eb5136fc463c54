"""The main job: reading real git histories, and a changelog that is killed in its middle and resumed."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

import weft
from weft.core.errors import GitError
from weft.core.record import Outcome, decode_records
from weft.store import open_store
from weft.tool import git
from weft.tool.git import _browsable

EXAMPLE = Path(__file__).parent.parent / "examples" / "changelog.py"
DATA = Path(__file__).parent.parent / "benchmarks" / "data" / "commits.jsonl"
sys.path.insert(0, str(EXAMPLE.parent))  # so that the program has the same name here as when it is run as a script

from changelog import EXAMPLES, NEUTRAL, TITLES, changelog, link, plain  # noqa: E402

SUBJECTS = ["Fix wrong total", "Add export command", "Update README", "Bump version to 2.0", "Add tests for export"]


def command(repo: Path, *words: str) -> str:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in
           (("NAME", "Zoë"), ("EMAIL", "z@example.org"), ("DATE", "2026-01-02T03:04:05+01:00"))}  # fmt: skip
    done = subprocess.run(["git", "-C", str(repo), *words], env=clean | who, capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    command(folder, "init", "-q", "-b", "main")
    for number, subject in enumerate(SUBJECTS):
        (folder / "a file é.txt").write_text("line\n" * (number + 1))
        command(folder, "add", ".")
        command(folder, "commit", "-q", "-m", subject, "-m", "Why:\n\nbecause | of \x01 this")
    return folder


def test_log_tells_each_commit_whole(repo: Path) -> None:
    (repo / "blob").write_bytes(b"\0\1\2")
    command(repo, "add", ".")
    command(repo, "commit", "-q", "-m", "Add a blob")
    blob, tests, *_, first = asyncio.run(git.log(repo))
    assert (blob.subject, blob.files, blob.additions, blob.deletions) == ("Add a blob", ["blob"], 0, 0)
    assert (tests.subject, tests.body) == ("Add tests for export", "Why:\n\nbecause | of \x01 this")
    assert (tests.author, tests.date.isoformat()) == ("Zoë", "2026-01-02T03:04:05+01:00")
    assert (tests.files, tests.additions, tests.deletions, tests.merge) == (["a file é.txt"], 1, 0, False)
    assert first.hash == command(repo, "rev-list", "--max-parents=0", "HEAD")


def test_log_is_bounded_by_revisions_and_number(repo: Path) -> None:
    command(repo, "tag", "v1", "HEAD~2")
    assert [c.subject for c in asyncio.run(git.log(repo, since="v1"))] == SUBJECTS[:2:-1]
    assert [c.subject for c in asyncio.run(git.log(repo, until="v1", max=1))] == ["Update README"]


def test_a_merge_is_marked(repo: Path) -> None:
    command(repo, "switch", "-q", "-c", "side", "HEAD~1")
    command(repo, "commit", "-q", "--allow-empty", "-m", "On the side")
    command(repo, "merge", "-q", "--no-ff", "-m", "Merge main", "main")
    assert [c.subject for c in asyncio.run(git.log(repo)) if c.merge] == ["Merge main"]


def test_an_empty_repository_has_no_commits(tmp_path: Path) -> None:
    command(tmp_path, "init", "-q")
    assert asyncio.run(git.log(tmp_path)) == []
    assert asyncio.run(git.web_address(tmp_path)) is None


@pytest.mark.parametrize("bad", ["--output=stolen", "-1", "a..b", ""])
def test_what_looks_like_an_option_is_no_revision(repo: Path, bad: str) -> None:
    with pytest.raises(GitError, match="cannot be a revision"):
        asyncio.run(git.log(repo, since=bad))
    assert not (repo / "stolen").exists()


def test_errors_say_what_to_do(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GitError, match=r"no commit is called 'v9'.*git -C .* log"):
        asyncio.run(git.log(repo, since="v9"))
    with pytest.raises(GitError, match=r"not a git repository.*give the path"):
        asyncio.run(git.log(tmp_path))
    with pytest.raises(GitError, match=r"cannot change to.*give the path"):
        asyncio.run(git.log(tmp_path / "absent"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitError, match="git is not installed"):
        asyncio.run(git.log(repo))


def test_a_repository_cannot_make_the_reader_run_its_programs(repo: Path) -> None:
    trap = repo / "trap"
    trap.write_text(f"#!/bin/sh\ntouch {repo}/sprung\n")
    trap.chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "diff.external", "gpg.program", "diff.x.textconv"):
        command(repo, "config", key, str(trap))
    command(repo, "config", "log.showSignature", "true")
    (repo / ".gitattributes").write_text("* diff=x\n")
    assert len(asyncio.run(git.log(repo))) == len(SUBJECTS)
    assert not (repo / "sprung").exists()


@pytest.mark.parametrize(
    ("remote", "page"),
    [
        ("git@github.com:owner/name.git", "https://github.com/owner/name"),
        ("ssh://git@example.org:2222/owner/name", "https://example.org/owner/name"),
        ("https://user:secret@gitlab.com/group/sub/name.git", "https://gitlab.com/group/sub/name"),
        ("https://github.com/owner/name/", "https://github.com/owner/name"),
        ("/srv/git/name.git", None),
        ("file:///srv/git/name.git", None),
        ("https://example.org/", None),
    ],
)
def test_a_remote_becomes_a_page_without_its_password(remote: str, page: str | None) -> None:
    assert _browsable(remote) == page


def test_commits_are_linked_and_subjects_kept_from_markdown(repo: Path) -> None:
    commit = asyncio.run(git.log(repo, max=1))[0]
    assert link(commit, None) == f"`{commit.hash[:7]}`"
    assert link(commit, "https://gitlab.com/a/b").endswith(f"](https://gitlab.com/a/b/-/commit/{commit.hash})")
    assert plain("Use `x` for <b> [1]") == r"Use `x` for \<b\> \[1\]"


@pytest.fixture
def nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """The policy that everybody begins with."""
    for name in ("WEFT_POLICY", "WEFT_ALLOW", "WEFT_ASK", "WEFT_DENY"):
        monkeypatch.delenv(name, raising=False)


def refused(repo: Path, place: Path, monkeypatch: pytest.MonkeyPatch, **policy: tuple[str, ...]) -> str:
    """What a run of the program in this folder is told."""
    monkeypatch.chdir(repo)

    async def main() -> None:
        async with weft.Runtime(str(place / "journal.db"), policy=weft.Policy(**policy)) as runtime:
            await runtime.run(changelog, ".", "smollm2-135m", 0)

    with pytest.raises(weft.errors.Denied) as denied:
        asyncio.run(main())
    return denied.value.fix


@pytest.mark.usefixtures("nothing_more")
def test_it_may_read_its_repository_and_write_the_one_file_that_was_allowed(
    repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(repo, tmp_path, monkeypatch).endswith("--allow write:./CHANGELOG.generated.md")
    assert not (repo / "CHANGELOG.generated.md").exists()
    (repo / "inside").mkdir()
    fix = refused(repo / "inside", tmp_path, monkeypatch)
    assert fix.endswith(f"--allow read:{repo}/.git/."), "the repository lies outside the workspace"


@pytest.mark.usefixtures("nothing_more")
def test_a_hosted_model_has_to_be_allowed(repo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repo)

    async def main() -> None:
        async with weft.Runtime(str(tmp_path / "journal.db")) as runtime:
            await runtime.run(changelog, ".", "openai:gpt-5", 1)

    with pytest.raises(weft.errors.Denied, match="--allow model:openai/gpt-5"):
        asyncio.run(main())


def test_a_work_tree_needs_the_repository_it_belongs_to(repo: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    command(repo, "worktree", "add", "-q", str(tree))

    @weft.workflow(name="logs_tree")
    async def logs() -> int:
        return len(await git.log(tree))

    async def main(*allow: str) -> int:
        policy = weft.Policy(base="program", allow=allow)
        async with weft.Runtime(str(tmp_path / "journal.db"), policy=policy) as runtime:
            return await runtime.run(logs)

    with pytest.raises(weft.errors.Denied, match=rf"--allow read:{repo}/\.git"):
        asyncio.run(main(f"read:{tree}"))
    assert asyncio.run(main(f"read:{tree}", f"read:{repo}/.git")) == len(SUBJECTS)


@pytest.mark.usefixtures("nothing_more")
def test_killed_in_its_middle_it_resumes_and_asks_nothing_twice(repo: Path, tmp_path: Path) -> None:
    """kill -9 while it generates; then resume: the answers that were journaled are not asked for again, and what the
    script was allowed it is still."""
    command(repo, "remote", "add", "origin", "git@github.com:owner/name.git")
    store, page = tmp_path / "journal.db", tmp_path / "page.md"
    words = [str(repo), "--model", "smollm2-135m?slots=2", "--output", str(page)]
    environment = os.environ | {"WEFT_STORE": str(store), "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen([sys.executable, str(EXAMPLE), *words], env=environment) as first:
        before = Counter[str]()
        deadline = time.monotonic() + 240
        while before["generate"] < 8 and time.monotonic() < deadline and first.poll() is None:
            time.sleep(0.1)
            before = asyncio.run(_outcomes(store)) if store.exists() else before
        first.send_signal(signal.SIGKILL)
    assert not page.exists() and before["generate"] >= 8, before

    async def resumed() -> tuple[dict[str, object], Counter[str]]:
        seen = Counter[str]()
        async with weft.Runtime(str(store)) as runtime:
            runtime.observe(lambda _, record: seen.update([record.name] if isinstance(record, Outcome) else []))
            (run,) = await runtime.resume_all()
            return await run, seen

    result, after = asyncio.run(resumed())
    assert result["commits"] == len(SUBJECTS) and result["output"] == str(page)
    text = page.read_text()
    for commit in asyncio.run(git.log(repo)):
        assert text.count(f"https://github.com/owner/name/commit/{commit.hash}") == 1
    kinds = result["groups"]
    assert isinstance(kinds, dict) and set(kinds) <= set(TITLES) and sum(kinds.values()) == len(SUBJECTS)
    whole = 24 + len(SUBJECTS) + len(kinds)  # habits, kinds, summaries
    assert after["generate"] <= whole - before["generate"], "an answer that was in the journal was generated again"
    assert after["git.log"] == 0


async def _outcomes(store: Path) -> Counter[str]:
    """Outcomes by step name, as another process sees them."""
    journal = open_store(store)
    try:
        segments = [segment for row in await journal.rows() for segment in await journal.segments([row.id])]
    finally:
        await journal.close()
    return Counter(r.name for s in segments for r in decode_records(s.records) if isinstance(r, Outcome))


def test_no_example_shown_to_a_model_is_among_the_commits_it_is_judged_on() -> None:
    rows = [json.loads(line) for line in DATA.read_text("utf-8").splitlines()]
    judged = [row for row in rows if row["split"] == "evaluation"]
    assert len(judged) >= 300 and {row["label"] for row in judged} == set(TITLES)
    assert len({row["hash"] for row in rows}) == len({row["subject"] for row in rows}) == len(rows)
    shown = {text.lower() for text in (*NEUTRAL, *(text for text, _ in EXAMPLES))}
    assert not shown & {row["subject"].lower() for row in rows}
