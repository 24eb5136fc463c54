"""Make commits.jsonl from git-cliff's changelog: `python make_commits.py CHANGELOG.md > commits.jsonl`."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

LABELS = {
    "Features": "feature",
    "Bug Fixes": "fix",
    "Documentation": "documentation",
    "Refactor": "refactoring",
    "Testing": "test",
    "Miscellaneous Tasks": "chore",
}
LINE = re.compile(
    r"- (?:\*\([^)]*\)\* )?(?:\[\*\*breaking\*\*\] )?"  # the scope and the mark of a breaking change
    r"(?P<subject>.*?)(?: \(\[#\d+\]\([^)]*\)\))*(?: by \S+.*?)?"
    r" - \(?\[[0-9a-f]{7,}\]\(\S*?/commit/(?P<hash>[0-9a-f]{40})\)\)?$"
)


def main() -> None:
    version = label = ""
    seen = set()
    for line in Path(sys.argv[1]).read_text("utf-8").splitlines():
        if found := re.match(r"## \[([^\]]+)\]", line):
            version, label = found[1], ""
        elif line.startswith("### "):
            label = LABELS.get(re.sub(r"^[^A-Za-z]+", "", line[4:]).strip(), "")
        elif line.startswith("## "):
            label = ""
        elif version and label and (found := LINE.match(line)) and found["subject"] not in seen:
            seen.add(found["subject"])
            row = {
                "hash": found["hash"],
                "subject": found["subject"],
                "label": label,
                "repository": "https://github.com/orhun/git-cliff",
                "version": version,
                "split": "evaluation" if int(version.split(".")[0]) >= 2 else "development",
            }
            print(json.dumps(row, ensure_ascii=False))


if __name__ == "__main__":
    main()
