"""Templates of lines against drain3 with six common masks, on Loghub's corrected 2k sets; folding, on agents' runs.

- *grouping*: share of lines whose template has exactly the lines that the true one has (GA of Loghub's evaluator);
- *parsing*: share of lines whose template is the true one, word for word (PA; runs of white space count as one space);
- *categories*: share of slots labelled by hand (`categories.txt`) that were found as a variable of a right category;
- *folding*: tokens of the shell tools' results after folding, of those before; and that nothing is lost, looked for in
  the folded text of the same run. Tokens are counted by a rule (up to six letters, three digits, or a mark, up to
  sixteen times), not by a model's.

One configuration for all systems. The tagger has seen no line of them; the design was tried on the eight of them that
are kept here. DIR holds `loghub2k_corrected` and `agent_traces`, unpacked or as .tar.gz.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
import tarfile
import tempfile
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from statistics import mean, median
from time import process_time

from benchmarks.report import Measure, Report
from weft.agent.context.repeats import AGAIN
from weft.core.lines import Folder, Templates
from weft.core.lines.fold import says
from weft.core.lines.words import split
from weft.tool.folding import shorter, worth_folding

SPACES = re.compile(r"\s+")
RULE = re.compile(r"([^\w\s])\1{3,}")
TOKEN = re.compile(r"[A-Za-z]{1,6}|\d{1,3}|([^\w\s])\1{0,15}|_")
COLOUR = re.compile(r"\x1b\[[\d;]*m")
PLACE = re.compile(r"(?<![\w./-])(?:[\w.~-]*/)+[\w.-]*\w(?::\d+)*")
STATUS = re.compile(
    r"(?:exit(?:ed)?(?: with)?(?: status| code)|HTTP(?:/[\d.]+)?|status code|returned|rc)[ =:]+(-?\d+)\b"
)
MASKS = (
    (
        r"(?<=[^A-Za-z0-9])(([0-9a-f]{2,}:){3,}([0-9a-f]{2,}))(?=[^A-Za-z0-9])|^(([0-9a-f]{2,}:){3,}([0-9a-f]{2,}))",
        "ID",
    ),
    (r"/?(\d{1,3}\.){3}\d{1,3}(:\d+)?", "IP"),
    (r"blk_-?\d+|[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", "ID"),
    (r"(?<![\w/])(/[\w.\-]+)+/?", "PATH"),
    (r"\b0x[a-fA-F0-9]+\b|\b[0-9a-f]{12,}\b", "HEX"),
    (r"(?<![\w.])[-+]?\d+(\.\d+)?(?![\w.])", "NUM"),
)
"""The six masks that the peer gets."""


def figures(report: Report, directory: Path, *, quick: bool) -> None:
    with _unpacked(directory, "loghub2k_corrected") as logs:
        if logs is None:
            for figure in ("grouping", "parsing", "categories", "speed"):
                report.bar(figure, "on Loghub's 2k sets", None, least=0, why=f"no loghub2k_corrected in {directory}")
        else:
            systems = {one.name: _read(one) for one in sorted(logs.iterdir()) if one.is_dir()}
            _accuracy(report, systems)
            _categories(report, systems)
            _speed(report, [line for lines, _, _ in systems.values() for line in lines], 1 if quick else 5)
    with _unpacked(directory, "agent_traces") as runs:
        if runs is None:
            report.bar("folding", "of real agents' outputs", None, most=0.3, why=f"no agent_traces in {directory}")
        else:
            _folding(report, runs)


# --- templates --------------------------------------------------------------------------------------------------------


def _read(folder: Path) -> tuple[list[str], list[str], list[str]]:
    """Contents, true templates and numbers of events."""
    (file,) = folder.glob("*structured_corrected.csv")
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    return tuple([row[name] for row in rows] for name in ("Content", "EventTemplate", "EventId"))  # type: ignore[return-value]


def grouping(found: Sequence[Hashable], true: Sequence[Hashable]) -> float:
    """Share of lines whose group is the true one."""
    groups, sizes = defaultdict(Counter), Counter(true)
    for one, other in zip(found, true, strict=True):
        groups[one][other] += 1
    right = (next(iter(group.items())) for group in groups.values() if len(group) == 1)
    return sum(count for other, count in right if sizes[other] == count) / len(true)


def parsing(found: Sequence[str], true: Sequence[str]) -> float:
    """Share of lines whose template is the true one."""
    return mean(_plain(one) == _plain(other) for one, other in zip(found, true, strict=True))


def _plain(template: str) -> str:
    return SPACES.sub(" ", template).strip()


def by_weft(lines: Sequence[str]) -> tuple[list[Hashable], list[str]]:
    templates = Templates()
    read = [templates.parse(line) for line in lines]
    return [id(one.template) for one in read], [one.template.text for one in read]


def by_drain3(lines: Sequence[str]) -> tuple[list[Hashable], list[str]]:
    from drain3 import TemplateMiner
    from drain3.masking import MaskingInstruction
    from drain3.template_miner_config import TemplateMinerConfig

    config = TemplateMinerConfig()
    config.masking_instructions = [MaskingInstruction(pattern, name) for pattern, name in MASKS]
    miner = TemplateMiner(config=config)
    ids = [miner.add_log_message(line.strip())["cluster_id"] for line in lines]
    texts = {one.cluster_id: re.sub(r"<[A-Z]+>", "<*>", one.get_template()) for one in miner.drain.clusters}
    return ids, [texts[one] for one in ids]


def _accuracy(report: Report, systems: dict[str, tuple[list[str], list[str], list[str]]]) -> None:
    peer = find_spec("drain3") is not None
    reached: dict[tuple[str, str], float] = {}
    for name, parse in (("Weft", by_weft), ("drain3 with six masks", by_drain3)):
        if name != "Weft" and not peer:
            for figure in ("grouping", "parsing"):
                report.add(figure, Measure(name=name, unit="", note="drain3 is not installed: weft[bench]"))
            continue
        scores = {}
        for system, (lines, true, _) in systems.items():
            ids, texts = parse(lines)
            scores[system] = grouping(ids, true), parsing(texts, true)
        for place, figure in enumerate(("grouping", "parsing")):
            each = [one[place] for one in scores.values()]
            note = ", ".join(f"{system} {one[place]:.2f}" for system, one in scores.items())
            report.add(figure, Measure(name=name, unit="of lines, mean", runs=[mean(each)], note=note))
            reached[name, figure] = mean(each)
    for figure, least in (("grouping", 0.88), ("parsing", 0.65)):
        ours = reached["Weft", figure]
        report.bar(figure, f"at least {least}", ours, least=least)
        theirs = reached.get(("drain3 with six masks", figure))
        more = None if theirs is None else ours - theirs
        why = "no peer was measured" if theirs is None else f"drain3: {theirs:.3f}"
        report.bar(figure, "at least drain3 + 0.10", more, least=0.1, unit="more", why=why)
    report.bar("grouping", "moonshot: 0.98", reached["Weft", "grouping"])


def _speed(report: Report, lines: list[str], rounds: int) -> None:
    """Each round with a new tagger's memory; the lines as they came, one system after the other."""
    from array import array
    from importlib.resources import files

    from weft.core.lines import Tagger

    weights = array("b", files("weft.core.lines").joinpath("tagger.bin").read_bytes())
    runs = []
    for _ in range(rounds):
        templates = Templates(by=Tagger(weights))
        began = process_time()
        for line in lines:
            templates.parse(line)
        runs.append(len(lines) / (process_time() - began))
    report.add("speed", Measure(name="Weft", unit="lines per CPU-second", runs=runs))
    report.bar("speed", "at least 10,000 lines/s on a core", median(runs), least=10_000, why="median of the rounds")


# --- categories -------------------------------------------------------------------------------------------------------


def _categories(report: Report, systems: dict[str, tuple[list[str], list[str], list[str]]]) -> None:
    labels = [
        line.split() for line in Path(__file__).with_name("categories.txt").read_text().splitlines() if line[0] != "#"
    ]
    right = total = 0
    wrong: Counter[str] = Counter()
    for system, event, *slots in labels:
        if system not in systems:
            continue
        lines, true, events = systems[system]
        place = events.index(event)
        found = _found(lines[place], true[place])
        for slot, accepted in enumerate(slots):
            got = found[slot] if slot < len(found) else ""
            total += 1
            right += got in accepted.split("/")
            wrong[f"{accepted} as {got or 'static'}"] += got not in accepted.split("/")
    note = "; ".join(f"{what} {count}" for what, count in wrong.most_common(5) if count)
    share = right / total if total else None
    report.add("categories", Measure(name="Weft", unit=f"of {total} slots", runs=[share] if share else [], note=note))
    report.bar("categories", "at least 0.85 of the slots labelled by hand", share, least=0.85)


def _found(line: str, template: str) -> list[str]:
    """What was found at each variable of the true template: a category, or "" for static text."""
    line = _plain(line)
    parts = [re.escape(part) for part in _plain(template).split("<*>")]
    match = re.fullmatch(r"(\S*?.*?)".join(parts), line)
    if match is None:
        return []
    read = Templates().parse(line)
    spans, at = [], 0
    for part, key, tag in zip(read.parts, read.template.key, read.tags, strict=True):
        if key == "<*>":
            spans.append((at, at + len(part), tag))
        at += len(part)
    found = []
    for slot in range(1, (match.lastindex or 0) + 1):
        low, high = match.span(slot)
        found.append(next((tag for start, end, tag in spans if start < high and low < end), ""))
    return found


# --- folding ----------------------------------------------------------------------------------------------------------


def _folding(report: Report, runs: Path) -> None:
    results = [list(_results(file)) for file in sorted(runs.rglob("tool_calls.json.gz"))]
    whole = Folder()
    shares = {
        "each result alone": _share((text, Folder()) for run in results for text in run),
        "each run's results": _share((text, folder) for run in results for folder in [Folder()] for text in run),
        "all results": _share((text, whole) for run in results for text in run),
    }
    for name, share in shares.items():
        report.add("folding", Measure(name=f"one folder for {name}", unit="of the tokens", runs=[share]))
    least, told = _least(results), _as_told(results)
    report.add(
        "folding", Measure(name="each run, the words of its templates alone", unit="of the tokens", runs=[least])
    )
    report.add("folding", Measure(name="each run, as an agent's model is told", unit="of the tokens", runs=[told]))
    why = "results are cut at 500 characters in these records"
    report.bar("folding", "tokens left, all results in one stream", shares["all results"], most=0.30, why=why)
    report.bar(
        "folding", "tokens left, a folder for each run", shares["each run's results"], why=f"no less than {least:.2f}"
    )
    kept, total = map(sum, zip(*(_kept(run) for run in results), strict=True))
    report.bar("folding", "templates, status codes, errors and their places kept", kept / total, least=1.0,
               why=f"{total:,} distinct ones of the runs, each looked for in its run's folded text")  # fmt: skip


def _least(results: list[list[str]]) -> float:
    """What is left if of each run nothing stays but the static words of its templates, each once."""
    before = after = 0
    for run in results:
        reader = Templates()
        read = [(reader.parse(line), line) for text in run for line in text.splitlines() if line.strip()]
        templates = {says(one, line)[0] for one, line in read}
        before += sum(len(TOKEN.findall(text)) for text in run)
        after += sum(len(TOKEN.findall(template.replace("<*>", ""))) for template in templates)
    return after / before


def _as_told(results: list[list[str]]) -> float:
    """What an agent's model reads with `Context(folded=...)`: lists and short results stay, and notes are added."""
    before = after = 0
    for run in results:
        folder, first = Folder(), True
        for text in run:
            told = text
            if worth_folding(text):
                what = f"folded: {AGAIN}" if first else "folded"
                told = shorter(text, f"{folder.fold(text)}\n[{what}; recall('f1') shows all]") or text
                first = first and told is text
            before += len(TOKEN.findall(text))
            after += len(TOKEN.findall(told))
    return after / before


def _results(file: Path) -> Iterator[str]:
    for call in json.loads(gzip.decompress(file.read_bytes())):
        if call["tool"] == "Bash" and call.get("result_preview"):
            yield call["result_preview"]


def _share(given: Iterator[tuple[str, Folder]]) -> float:
    before = after = 0
    for text, folder in given:
        before += len(TOKEN.findall(text))
        after += len(TOKEN.findall(folder.fold(text)))
    return after / before


def _ruled(line: str) -> str:
    """With every rule of dashes and the like in three marks, as folding writes it: its length says nothing."""
    return RULE.sub(r"\1\1\1", line)


def _kept(texts: list[str]) -> tuple[int, int]:
    """Of what the texts of a run say, how much is in the folded ones: some line there has the template's words, in
    order, and the status codes, places and errors; and places and codes as patterns find them, whatever Weft says."""
    folder, reader = Folder(), Templates()
    folded = [_ruled(_plain(line)) for text in texts for line in folder.fold(text).splitlines()]
    lines = [COLOUR.sub("", line) for text in texts for line in text.splitlines() if line.strip()]
    read = [(reader.parse(line), line) for line in lines]
    said = {says(one, line) for one, line in read}  # by the templates as they are in the end
    kept = sum(_in(folded, template, told) for template, *told in said)
    found = {one for line in lines if "error" in line.lower() or 'File "' in line for one in PLACE.findall(line)}
    found |= {one for line in lines for one in STATUS.findall(line)}
    patterns = [re.compile(rf"(?<![\w/]){re.escape(one)}(?!\w)") for one in found]
    kept += sum(any(pattern.search(line) for line in folded) for pattern in patterns)
    return kept, len(said) + len(found)


def _in(folded: list[str], template: str, told: list[str]) -> bool:
    words = [word for part in _ruled(template).split("<*>") for word in split(part) if word != " "]
    pattern = re.compile(".*?".join(map(re.escape, words)))
    return any(pattern.search(line) and all(_ruled(_plain(one)) in line for one in told) for line in folded)


@contextmanager
def _unpacked(directory: Path, name: str) -> Iterator[Path | None]:
    """The folder of this name, or what its archive holds."""
    archive = directory / f"{name}.tar.gz"
    if (directory / name).is_dir() or not archive.exists():
        yield directory / name if (directory / name).is_dir() else None
        return
    with tempfile.TemporaryDirectory(prefix="weft-trace-") as place:
        with tarfile.open(archive) as opened:
            opened.extractall(place, filter="data")
        yield Path(place) / name
