"""A changelog for any git repository, written by a model that runs on this machine.

    weft run examples/changelog.py --input repo=. --allow write:./CHANGELOG.generated.md
    python examples/changelog.py PATH/TO/REPOSITORY --model qwen2.5-coder-1.5b

The history is read by a tool, each commit gets its kind from the model under a JSON schema (many at once), the kinds
become sections, the model phrases each section in a line, and the page is written. Every step and every answer is
journaled: after `kill -9`, `weft resume` goes on where it stopped and asks nothing twice. The run may read its
workspace and write that one file; as a script it gives itself the rights to the repository and the file it was given.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Any

import weft
from weft.model import Classifier, Message, Model
from weft.tool import files, git
from weft.tool.git import Commit

TITLES = {
    "feature": "Features",
    "fix": "Bug fixes",
    "documentation": "Documentation",
    "refactoring": "Refactoring",
    "test": "Tests",
    "chore": "Chores",
}

# Made up, from no repository: three pairs of each kind to show, and four texts of each kind, without labels, to
# measure the model's habits on.
SYSTEM = (
    "You sort commits. feature: new ability. fix: repairs a bug. documentation: docs, website, README. "
    "refactoring: code reorganised, same behaviour. test: tests. chore: CI, build, dependencies, releases, config."
)
EXAMPLES = [
    ("Add dark mode to the settings page", "feature"),
    ("Fix crash when the config file is empty", "fix"),
    ("Update installation guide in README", "documentation"),
    ("Extract parsing code into its own module", "refactoring"),
    ("Add unit tests for the date parser", "test"),
    ("Bump version to 1.4.2", "chore"),
    ("Support reading input from stdin", "feature"),
    ("Handle missing user names correctly", "fix"),
    ("Correct typos in the tutorial", "documentation"),
    ("Rename variables for clarity", "refactoring"),
    ("Cover the error path of the upload", "test"),
    ("Update GitHub Actions workflow", "chore"),
    ("Allow several output formats", "feature"),
    ("Avoid division by zero in the average", "fix"),
    ("Explain the cache in the user guide", "documentation"),
    ("Simplify the scheduler loop", "refactoring"),
    ("Check that empty lists are rejected in tests", "test"),
    ("Remove unused build scripts", "chore"),
]
NEUTRAL = [
    "Introduce a command for exporting data",
    "Show progress while downloading",
    "Add option to limit the number of results",
    "Make the retry delay configurable",
    "Prevent a deadlock on shutdown",
    "Use the right path on Windows",
    "Do not lose the last line of the file",
    "Escape quotes in the output",
    "Add examples for the query language",
    "Describe how to run the server behind a proxy",
    "Improve wording of the contributing guide",
    "Fix broken links in the docs",
    "Move common functions to a shared package",
    "Split the large function into smaller ones",
    "Use a dataclass instead of a tuple",
    "Clean up the error types",
    "Test the login flow",
    "Add fixtures for the database tests",
    "Increase coverage of the printer",
    "Make integration tests run in parallel",
    "Upgrade dependencies",
    "Prepare release 2.0.0",
    "Configure the linter",
    "Update the Dockerfile base image",
]

TOLD = 4
PHRASED = [
    Message("user", "- Add CSV export\n- Support dark mode\n- Allow custom keyboard shortcuts"),
    Message("assistant", "Adds CSV export, dark mode and custom keyboard shortcuts."),
    Message("user", "- Fix crash on empty input\n- Handle missing home folder\n- Correct rounding of prices"),
    Message("assistant", "Repairs a crash on empty input, a missing home folder and the rounding of prices."),
]


def commit_classifier(model: Model) -> Classifier:
    """Tells a commit's kind from its first line."""
    return Classifier(
        model,
        list(TITLES),
        system=SYSTEM,
        examples=EXAMPLES,
        neutral=NEUTRAL if model.embedded else (),
        form="Commit: {}",
    )


@weft.workflow
async def changelog(
    repo: str = ".",
    model: str = weft.model.DEFAULT,
    limit: int = 200,
    output: str = "CHANGELOG.generated.md",
    since: str | None = None,
) -> dict[str, Any]:
    """Write `output` from the last `limit` commits of `repo` (those after the revision `since`, if given); both are
    seen from the run's workspace."""
    history = await git.log(repo, since=since, max=limit)
    commits = [commit for commit in history if not commit.merge]
    web = await git.web_address(repo)

    mind = Model(model)
    kind_of = commit_classifier(mind)
    kinds = await asyncio.gather(*(kind_of(commit.subject[:200]) for commit in commits))

    groups = {kind: [c for c, k in zip(commits, kinds, strict=True) if k == kind] for kind in TITLES}
    groups = {kind: members for kind, members in groups.items() if members}
    lines = await asyncio.gather(*(phrase(mind, members) for members in groups.values()))

    page = render(groups, lines, web, model)
    return {
        "run": weft.current().id,
        "output": await files.write_text(output, page),
        "commits": len(commits),
        "groups": {kind: len(members) for kind, members in groups.items()},
    }


async def phrase(mind: Model, commits: list[Commit]) -> str:
    """The group in a line, in the model's words: of its newest commits, for more would be too much for a small one."""
    told = commits[:TOLD]
    reply = await mind.chat(
        [*PHRASED, Message("user", bullets([commit.subject[:100] for commit in told]))],
        system="You write release notes. Sum up the list of changes in one short sentence.",
        max_tokens=64,
    )
    line = " ".join(reply.text.split("\n")[0].split())
    if reply.finish == "length":
        line = line.rsplit(" ", 1)[0].rstrip(",") + " …"
    return f"{line} And {len(commits) - TOLD} more." if len(commits) > TOLD else line


def bullets(lines: list[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def render(groups: dict[str, list[Commit]], lines: list[str], web: str | None, model: str) -> str:
    """The page as Markdown."""
    page = [
        "# Changelog",
        "",
        f"Kinds and summaries are the guesses of the model `{model}`; the rest is from git.",
        "",
    ]
    for (kind, commits), line in zip(groups.items(), lines, strict=True):
        page += [f"## {TITLES[kind]} ({len(commits)})", "", f"*{plain(line)}*", ""]
        page += [f"- {plain(c.subject)} ({link(c, web)}, {c.date:%Y-%m-%d})" for c in commits] + [""]
    return "\n".join(page if groups else [*page, "No commits.", ""])


def plain(text: str) -> str:
    """Text that Markdown shows as it is (code in backticks stays code)."""
    return "".join(f"\\{c}" if c in "\\[]<>*_" else c for c in text)


def link(commit: Commit, web: str | None) -> str:
    short = f"`{commit.hash[:7]}`"
    if web is None:
        return short
    return f"[{short}]({web}{'/-' if 'gitlab' in web else ''}/commit/{commit.hash})"


def main() -> None:
    parser = argparse.ArgumentParser(description="Write a changelog of a git repository with a local model.")
    parser.add_argument("repo", nargs="?", default=".")
    parser.add_argument(
        "--model", default=weft.model.DEFAULT, help="a catalogue name, openai:NAME or http://HOST/v1#NAME"
    )
    parser.add_argument("--limit", type=int, default=200, help="how many commits, from the newest")
    parser.add_argument("--output", default="CHANGELOG.generated.md")
    parser.add_argument("--since", help="only commits after this revision")
    chosen = vars(parser.parse_args())
    repo, output = (Path(chosen[name]).expanduser().absolute() for name in ("repo", "output"))
    chosen |= {"repo": str(repo), "output": str(output)}
    try:
        # Whoever names them on the command line allows them.
        with weft.grant(f"read:'{repo}'", f"write:'{output}'", "model:**"):
            result = weft.run(changelog, **chosen)
    except weft.WeftError as error:
        sys.exit(f"changelog: {error}")
    counted = ", ".join(f"{count} {kind}" for kind, count in result["groups"].items())
    print(f"{result['output']}: {result['commits']} commits ({counted or 'none'})")
    print(f"run {result['run']}: `weft show {result['run']}` tells what happened in it")


if __name__ == "__main__":
    main()
