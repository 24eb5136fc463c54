"""Ask a repository a question: the answer cites files and lines, and says so when there is none.

    weft run examples/ask_repository.py --input question="How is a run resumed after a crash?"
    python examples/ask_repository.py "Where is the budget charged?" --repo PATH --model anthropic:claude-sonnet-5

Search does the work. The question's words are looked for in the text files; the files where the rarest of them stand
close together are cut into passages; those are ranked by words (BM25) and by meaning (MiniLM, an embedded model). The
answer is the best passages; if none is near enough, it is that nothing was found. No embedded model says them in words
of its own: of seven sentences that SmolLM2 made of the right passage, not one was to be relied on (docs/examples.md).
With a model that can use tools (`--model`) an agent goes on from there: it searches, reads and answers, and what it
cites must be lines that are there.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import weft
from weft.agent import Agent, Tripped
from weft.model import cosine, embedder
from weft.model.spec import where
from weft.tool import builtin, files

GLOBS = ("*.md", "*.rst", "*.txt", "*.py", "*.js", "*.ts", "*.go", "*.rs", "*.java", "*.c", "*.h", "*.toml", "*.sh")
FILES, WORDED, BEST, LINES = 24, 24, 4, 24
"""Files that are read, passages that are ranked by meaning, those that are shown, and lines of one at most."""
NEAR = 0.42
"""How near the best passage must be to the question (cosine) if there is an answer: see docs/examples.md."""
PLAIN = re.compile(
    "about|after|all|also|and|any|are|been|before|being|but|can|could|does|each|for|from|gets?|had|has|have|how|into|"
    "its|made?|makes?|may|more|most|must|not|one|only|other|over|says?|should|some|such|than|that|the|their|them|then|"
    "there|these|they|this|those|through|used?|uses|was|were|what|when|where|which|who|whose|why|will|with|would|your?"
)


@dataclass(frozen=True)
class Passage:
    """Lines of a file, from line `start`. `title`: the file's first line."""

    path: str
    title: str
    start: int
    text: str

    @property
    def whole(self) -> str:
        return f"{self.path}\n{self.title}\n{self.text}"

    @property
    def shown(self) -> str:
        rows = self.text.split("\n")
        return "\n".join([f"{self.path}:", *(f"{n}\t{row[:200]}" for n, row in enumerate(rows, self.start))])

    def source(self, question: str) -> str:
        """`file:line`, by the line that has most of the question's words."""
        wanted = set(words(question))
        rows = self.text.split("\n")
        telling = max(range(len(rows)), key=lambda at: len(wanted & {*words(rows[at])}))
        return f"{self.path}:{self.start + telling}"


@dataclass
class Found:
    """`known`: whether the repository answers it. `sources`: `file:line`, the best first."""

    answer: str
    known: bool
    sources: list[str]


# --- search -----------------------------------------------------------------------------------------------------------


def words(text: str) -> list[str]:
    """The words of a text without their endings, and without those that say nothing; names in code are words, too."""
    split = re.sub(r"([a-z])([A-Z])", r"\1 \2", text)
    found = [word.lower() for word in re.findall(r"[A-Za-z]{3,}|\d{2,}", split)]
    return [re.sub(r"(?<=...)(?:ations?|ings?|ed|es|e|s|ly)$", "", word) for word in found if not PLAIN.fullmatch(word)]


@weft.step(effect="pure", needs="read:{repo}")
async def passages(question: str, repo: str) -> list[Passage]:
    """The passages that share most with the question, by their words."""
    wanted = sorted(set(words(question)))[:12]
    looked = await asyncio.gather(
        *(files.search(word, repo, glob=GLOBS, literal=True, case=False, limit=5000) for word in wanted)
    )
    rare, places = dict[str, float](), dict[str, list[tuple[int, str]]]()
    for word, found in zip(wanted, looked, strict=True):
        holding = {match.path for match in found.matches}
        rare[word] = 0.1 if found.stopped else math.log(1 + found.files / (1 + len(holding)))
        for match in found.matches:
            places.setdefault(match.path, [(0, name) for name in wanted if name in match.path.lower()])
            places[match.path].append((match.line, word))
    score = {path: densest(found, rare) for path, found in places.items()}
    best = sorted(score, key=lambda path: (-score[path], path))[:FILES]
    pages = await asyncio.gather(*(files.read(Path(repo, path)) for path in best), return_exceptions=True)
    read = [(path, page.text) for path, page in zip(best, pages, strict=True) if not isinstance(page, BaseException)]
    return await asyncio.to_thread(by_words, read, rare)


def densest(found: list[tuple[int, str]], rare: dict[str, float]) -> float:
    """How rare are the words that stand within a passage's length of each other, at most; those of the path (line 0)
    stand everywhere."""
    found = sorted(found)
    return max(
        sum(rare[word] for word in {word for line, word in found if line == 0 or start <= line < start + LINES})
        for start in {line for line, _ in found[:: max(1, len(found) // 200)]}
    )


def cut_up(path: str, text: str) -> list[Passage]:
    """The passages of a file: paragraphs, as many as fit, each a passage alone where a heading or a function begins."""
    found, rows, start, title = list[Passage](), list[str](), 1, text.lstrip().partition("\n")[0]
    for number, row in enumerate([*text.split("\n"), "# end"], 1):
        heads = re.match(r"#+ |(async )?def |class |func |fn ", row)
        if rows and (heads or len(rows) >= LINES or (not row.strip() and len(rows) >= LINES // 2)):
            if any(one.strip() for one in rows):
                found.append(Passage(path, title, start, "\n".join(rows).rstrip()))
            rows, start = [], number
        rows.append(row)
    return found


def by_words(read: list[tuple[str, str]], rare: dict[str, float]) -> list[Passage]:
    """The best first, by BM25 (Robertson and Zaragoza 2009, k1 = 1.2, b = 0.75)."""
    cut = [one for path, text in read for one in cut_up(path, text)]
    bags = [words(one.whole) for one in cut]
    usual = sum(map(len, bags)) / max(1, len(bags)) or 1.0

    def score(bag: list[str]) -> float:
        counts = ((rarity, bag.count(word)) for word, rarity in rare.items())
        return sum(rarity * 2.2 * n / (n + 1.2 * (0.25 + 0.75 * len(bag) / usual)) for rarity, n in counts)

    scores = [score(bag) for bag in bags]
    return [cut[at] for at in sorted(range(len(cut)), key=lambda at: -scores[at])[:WORDED]]


async def nearest(question: str, found: list[Passage]) -> list[tuple[float, Passage]]:
    """The best first, by meaning and rank by words, each with its nearness in meaning."""
    if not found:
        return []
    vectors = await embedder()([question, *(one.whole[:1000] for one in found)])
    near = [(cosine(vectors[0], vectors[at]), one) for at, one in enumerate(found, 1)]
    order = sorted(range(len(near)), key=lambda at: -near[at][0])
    place = {at: rank for rank, at in enumerate(order)}
    return [near[at] for at in sorted(range(len(near)), key=lambda at: -1 / (10 + at) - 1 / (10 + place[at]))]


# --- answers ----------------------------------------------------------------------------------------------------------


def reader(model: str, repo: str) -> Agent[Found]:
    """Searches and reads on; it is not let go with a line that is not there."""

    async def cited(found: Found) -> Found:
        for source in found.sources:
            path, _, line = source.rpartition(":")
            try:
                there = (await files.read(Path(repo, path), int(line), 1)).text.strip()
            except (OSError, ValueError, weft.WeftError):
                there = ""
            if not there:
                raise Tripped(f"{source} is no line", f"{source!r} is no line of the repository: cite as path:line")
        if found.known and not found.sources:
            raise Tripped(
                "nothing is cited", "cite at least one path:line for what you say, or say that known is false"
            )
        return found

    return Agent(
        model,
        name="reader",
        instructions=f"You answer questions about the repository in the folder {repo!r}, in a few sentences, from what "
        "you read there and nothing else. If it does not say, known is false, and you tell what you looked for. "
        "sources are lines that show it, such as src/app.py:12, seen from that folder.",
        tools=[builtin.search_files, builtin.read_file, builtin.find_files],
        output=Found,
        checks=[cited],
        turns=12,
    )


@weft.workflow
async def ask_repository(question: str, repo: str = ".", model: str = "") -> Found:
    """What the folder `repo` says about it. `model`: one that searches on and answers; without it, the passages do."""
    near = (await nearest(question, await passages(question, repo)))[:BEST]
    shown = "\n\n".join(one.shown for _, one in near)
    if model:
        asked = f"{question}\n\nA search for its words gave these passages, which may or may not help:\n\n{shown}"
        return (await reader(model, repo).conversation().say(asked)).output
    sources = [one.source(question) for _, one in near]
    if max((nearness for nearness, _ in near), default=0.0) < NEAR:
        return Found("Nothing in this repository seems to say so.", False, sources)
    return Found(shown, True, sources)


def main() -> None:
    parser = argparse.ArgumentParser(description="Answer a question about a repository, with files and lines.")
    parser.add_argument("question")
    parser.add_argument("--repo", default=".")
    parser.add_argument("--model", default="", help="the spec of a model that can use tools")
    chosen = vars(parser.parse_args())
    chosen["repo"] = repo = str(Path(chosen["repo"]).expanduser().absolute())
    rights = [f"read:'{repo}'", "model:local/minilm"]  # whoever names them on the command line allows them
    try:
        if model := chosen["model"]:
            rights += [f"model:{where(model).resource}", "tool:read_file", "tool:search_files", "tool:find_files"]
        with weft.grant(*rights):
            found = weft.run(ask_repository, **chosen)
    except weft.WeftError as error:
        sys.exit(f"ask_repository: {error}")
    print(found.answer)
    print(f"\n{'See' if found.known else 'Nearest'}: {', '.join(found.sources) or 'nothing'}")
    sys.exit(0 if found.known else 1)


if __name__ == "__main__":
    main()
