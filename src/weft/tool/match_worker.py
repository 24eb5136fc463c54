"""The process that matches lines (`weft.tool.matching`): it starts often, so it imports little and nothing of Weft.

It reads a line of JSON, what to look for, and answers with null or what is wrong with it. Then come batches: a line of
JSON with (file, number of its first line, bytes, whether more of this file comes) for each piece, and the pieces. The
answer to a batch is a line of JSON: the matches, and the files that are binary. A regular expression may take for ever:
who started it ends it, and if nobody is left to do so, the kernel does (SIGALRM).
"""

from __future__ import annotations

import json
import re
import resource
import signal
import sys

MEMORY = 1 << 30
WIDTH = 500
"""Characters of a line that are told."""
BEFORE = 150
"""Characters of a long line that are told before its match."""


def main() -> None:
    asked = json.loads(sys.stdin.buffer.readline())
    signal.alarm(asked["seconds"])
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    try:
        pattern = re.escape(asked["pattern"]) if asked["literal"] else asked["pattern"]
        matcher = Matcher(re.compile(pattern, 0 if asked["case"] else re.IGNORECASE), asked)
    except (re.error, RecursionError, OverflowError) as error:
        answer(str(error) or type(error).__name__)
        return
    answer(None)
    while line := sys.stdin.buffer.readline():
        pieces = [(*piece, sys.stdin.buffer.read(piece[2])) for piece in json.loads(line)]
        answer(matcher.batch(pieces))


def answer(what: object) -> None:
    sys.stdout.buffer.write(json.dumps(what).encode() + b"\n")
    sys.stdout.buffer.flush()


class Matcher:
    """What is looked for, and the lines that are not done with."""

    def __init__(self, pattern: re.Pattern[str], asked: dict[str, object]) -> None:
        self.pattern = pattern
        self.literal = str(asked["pattern"]).encode() if asked["literal"] and asked["case"] else b""
        self.context = int(str(asked["context"]))
        self.left = int(str(asked["limit"]))
        self.any = bool(asked["binary"])
        """Files that are no text are searched, too."""
        self.file = -1
        self.binary = False
        self.lines: list[tuple[int, str]] = []
        self.next = 0

    def batch(self, pieces: list[tuple[int, int, int, bool, bytes]]) -> dict[str, object]:
        found: list[object] = []
        binary: list[int] = []
        for file, first, _, more, data in pieces:
            if file != self.file:
                self.file, self.binary, self.lines, self.next = file, False, [], 0
            if not self.binary and not self.any and b"\0" in data:
                self.binary = True
                binary.append(file)
            if not self.binary:
                self.take(first, data, more)
                found += self.match(len(self.lines) - (self.context if more else 0))
        return {"found": found, "binary": binary}

    def take(self, first: int, data: bytes, more: bool) -> None:
        done = max(0, self.next - self.context)
        del self.lines[:done]
        self.next -= done
        alone = not self.context or not (more or self.lines)
        if self.literal and alone and self.literal not in data:
            return  # most of what is searched
        rows = data.decode("utf-8", "replace").split("\n")
        if not rows[-1]:
            rows.pop()
        self.lines += enumerate((row.removesuffix("\r") for row in rows), first)

    def match(self, until: int) -> list[object]:
        found: list[object] = []
        search, lines = self.pattern.search, self.lines
        for at in range(self.next, until):
            hit = search(lines[at][1])
            if hit is not None and self.left > 0:
                self.left -= 1
                before = [short(text, 0) for _, text in lines[max(0, at - self.context) : at]]
                after = [short(text, 0) for _, text in lines[at + 1 : at + 1 + self.context]]
                column = hit.start()
                found.append((self.file, lines[at][0], column + 1, short(lines[at][1], column), before, after))
        self.next = max(self.next, until)
        return found


def short(text: str, column: int) -> str:
    """What is told of a line: all of it, or what lies around that column."""
    if len(text) <= WIDTH:
        return text
    begin = max(0, min(column - BEFORE, len(text) - WIDTH))
    end = begin + WIDTH
    return f"{'[...] ' if begin else ''}{text[begin:end]}{' [...]' if end < len(text) else ''}"


if __name__ == "__main__":
    main()
