"""Templates of lines, learnt as the lines come, in bounded memory.

A line's static words, with `<*>` for the variables, name its template. The tagger can't know every name, so the lines
have a say, too: where templates differ in one word only, and that word took many values, it was a variable all along,
and they become one template. The more the tagger doubted that the word is static, the fewer values it takes. What was
read before the merge is not lost: a `Line` always tells its template as it is now, and the values in its slots.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from weft.core.errors import BadInput
from weft.core.lines.tagger import CATEGORIES, Tagger, tagger
from weft.core.lines.words import form, split

WILD = "<*>"
LONGEST = 4_000
"""Characters of a line that are looked at."""

WORDS = 64
"""Static words of a line above which no word of it becomes a variable for the lines beside it."""
DOUBT = 8.0
"""For how many words more one speaks that the tagger took for a variable with certainty; in proportion below."""
_UNITS = frozenset((
    "B", "KB", "MB", "GB", "TB", "kB", "KiB", "MiB", "GiB", "TiB", "ns", "us", "ms", "s", "sec", "second", "seconds",
    "minute", "minutes", "hours", "days",
))  # fmt: skip
"""Words that belong to the number before them: if they change, they are variable."""
_NOTHING = frozenset(("None", "null", "nil", "NULL", "undefined"))
"""Words that stand for a value which is not there."""

Key = tuple[str, ...]
Tagged = tuple[int, str, float]
"""A word's place, its category if it is a variable, and how sure it is that it is one."""


class Value(NamedTuple):
    """What stood in a slot."""

    category: str
    text: str


@dataclass(eq=False)
class Template:
    """What lines have in common. `count`: how many there were."""

    key: Key
    tags: Key
    """The category that each part of the key would have as a variable."""
    count: int = 0
    into: Template | None = None
    kinds: dict[int, Counter[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.kinds = {place: Counter() for place, part in enumerate(self.key) if part == WILD}

    @property
    def text(self) -> str:
        """With `<*>` for every variable."""
        return "".join(self.key)

    @property
    def categories(self) -> list[str]:
        """The category of each variable, from left to right: the one that most lines had there."""
        return [kinds.most_common(1)[0][0] for kinds in self.kinds.values()]

    @property
    def shown(self) -> str:
        """With the category of every variable, as in `Sent <OBA> files to <LOI>`."""
        categories = iter(self.categories)
        return "".join(f"<{next(categories)}>" if part == WILD else part for part in self.key)

    def seen(self, tags: Key, count: int = 1) -> None:
        """So many more lines, with these categories in its slots."""
        self.count += count
        for place, kinds in self.kinds.items():
            kinds[tags[place]] += count


@dataclass(frozen=True, slots=True)
class Line:
    """A line that was read. `parts`: its text, cut as the template's key is; `tags`: the category of each part."""

    first: Template
    parts: Key
    tags: Key

    @property
    def template(self) -> Template:
        """The template as it is now: it may have become part of another since the line was read."""
        one = self.first
        while one.into is not None:
            one = one.into
        return one

    @property
    def values(self) -> list[Value]:
        """What stands in the template's slots, from left to right."""
        return [Value(self.tags[place], self.parts[place]) for place in self.template.kinds]

    def shown(self, keep: Iterable[str] = CATEGORIES) -> str:
        """Variable-aware: variables of the categories in `keep` as they came, the others as `<*>`. Raises BadInput for
        what is no category."""
        kept = set(keep)
        if strange := kept - CATEGORIES.keys():
            raise BadInput(f"keep={sorted(strange)}: the categories are {', '.join(CATEGORIES)}")
        key = self.template.key
        return "".join(
            part if key[place] != WILD or self.tags[place] in kept else WILD for place, part in enumerate(self.parts)
        )


@dataclass
class _Place:
    """A word's place among templates that are equal but for it: the words that stood there, how much they speak for
    a variable, and the template that they became."""

    words: dict[str, Template] = field(default_factory=dict)
    weight: float = 0.0
    merged: Template | None = None


class Templates:
    """Learns templates from a stream of lines.

    `most`: how many forms of lines are remembered; the one not seen for longest goes first. `values`: how many words
    must have stood at a place for it to be a variable, if the tagger was sure that they are static. Raises BadInput
    for numbers below 1.
    """

    def __init__(self, most: int = 10_000, values: float = 8, by: Tagger | None = None) -> None:
        if min(most, values) < 1:
            raise BadInput(f"most={most}, values={values}: give numbers from 1 up")
        self.most, self.values = most, values
        self._tagger = by or tagger()
        self._known: OrderedDict[Key, Template] = OrderedDict()
        self._places: OrderedDict[Key, _Place] = OrderedDict()

    def __iter__(self) -> Iterator[Template]:
        """The templates there are now, the one seen last at the end."""
        return iter(dict.fromkeys(map(_now, self._known.values())))

    def parse(self, line: str) -> Line:
        """The line's template and values; any text will do."""
        pieces = split(line.strip()[:LONGEST])
        key, parts, tags, sure = self._abstract(pieces)
        template = self._known.get(key)
        if template is None:
            template = self._known[key] = self._settled(key, tags, sure)
            while len(self._known) > self.most:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        template = _now(template)
        template.seen(tags)
        return Line(template, parts, tags)

    def _abstract(self, pieces: list[str]) -> tuple[Key, Key, Key, list[float]]:
        """The key, and in as many parts the text, the categories, and how sure each is a variable."""
        key, tags, sure, last, lists = pieces.copy(), [""] * len(pieces), [0.0] * len(pieces), -2, False
        found = self._tagger.tags(pieces)
        for place, category, likely in _evened(pieces, found) if pieces.count(",") > 1 else found:
            tags[place], sure[place] = category, likely
            if likely >= 0.5 or (pieces[place] in _NOTHING and place and pieces[place - 1] == "="):
                key[place] = WILD
                lists = lists or (last == place - 2 and pieces[place - 1] in ",/")
                last = place
        place = len(key) - 1
        while lists and place > 1:
            if key[place] == key[place - 2] == WILD and key[place - 1] in ",/":  # values joined by a comma are one
                pieces[place - 2 : place + 1] = ["".join(pieces[place - 2 : place + 1])]
                for column in (key, tags, sure):
                    del column[place - 1 : place + 1]
                place -= 1
            place -= 1
        return tuple(key), tuple(pieces), tuple(tags), sure

    def _settled(self, key: Key, tags: Key, sure: list[float]) -> Template:
        """The template of a key that is new: one that a wider key has already, or its own."""
        words = [place for place, part in enumerate(key) if part != WILD and any(map(str.isalnum, part))]
        own = Template(key, tags=tags)
        if not 2 <= len(words) <= WORDS:
            return own  # nothing would be left, or too much to remember
        wider = [(place, (*key[:place], WILD, *key[place + 1 :])) for place in words]
        for place, wide in wider:
            beside = self._places.get(wide)
            if beside is not None and beside.merged is not None:
                return _now(beside.merged)
            known = self._known.get(wide)
            if known is not None and _takes(_now(known), place):
                return _now(known)
        for place, wide in wider:
            beside = self._places.setdefault(wide, _Place())
            self._places.move_to_end(wide)
            if key[place] in beside.words:
                continue
            beside.words[key[place]] = own
            beside.weight += self.values / 2 if key[place] in _UNITS else 1 + DOUBT * sure[place]
            if beside.weight >= self.values * (2 if len(words) == 2 else 1):
                own = self._merged(wide, beside, tags, sure)
                break
        while len(self._places) > 4 * self.most:
            self._places.popitem(last=False)
        return own

    def _merged(self, wide: Key, beside: _Place, tags: Key, sure: list[float]) -> Template:
        """One template of those that differ in this place only."""
        template = self._known.get(wide) or self._settled(wide, tags, sure)
        template = self._known[wide] = beside.merged = _now(template)
        for one in (*beside.words.values(), *self._known.values()):
            if one.into is None and one is not template and _covers(template.key, one.key):
                one.into = template
                template.seen(one.tags, one.count)
        beside.words.clear()
        return template


def _evened(pieces: list[str], found: list[Tagged]) -> list[Tagged]:
    """Of three or more words in a row, parted by commas and alike in form, all are variables if most are."""
    evened, row = found.copy(), [0]
    for at in range(1, len(found) + 1):
        last = found[at - 1][0]
        if at < len(found) and pieces[last + 1 : found[at][0]] in ([","], [",", " "]) and _alike(pieces, found, at):
            row.append(at)
            continue
        if len(row) > 2 and 2 * sum(found[one][2] >= 0.5 for one in row) > len(row):
            for one in row:
                evened[one] = (*found[one][:2], max(0.5, found[one][2]))
        row = [at]
    return evened


def _alike(pieces: list[str], found: list[Tagged], at: int) -> bool:
    """Whether this word and the one before have digits, and one kind."""
    one, other = (form(pieces[found[place][0]]).partition(" ")[0] for place in (at - 1, at))
    return one == other and one[:1] == "="


def _covers(wide: Key, key: Key) -> bool:
    """Equal, but for variables of the wide one."""
    return len(wide) == len(key) and all(one in (WILD, other) for one, other in zip(wide, key, strict=True))


def _takes(template: Template, place: int) -> bool:
    """A name may stand there: names stood there already, more than once."""
    kinds = template.kinds[place]
    return kinds.total() >= 3 and kinds.most_common(1)[0][0] in ("OBN", "OID", "LOI", "TID")


def _now(template: Template) -> Template:
    while template.into is not None:
        template = template.into
    return template
