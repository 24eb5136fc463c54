"""Cases as arrays of small numbers, and back: words, and numbers in bands.

Everything that a generator learns is one of a few dozen classes. A number is the band of its quantiles that it lies in;
drawing one from a band follows the quantiles inside. So a time that is mostly seconds and at times months keeps its
shape, which a mean (the published squared error) loses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from weft.core.errors import BadInput
from weft.trace.generation.cases import Case, Event

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Codes = NDArray[np.int64]

INNER = 9
"""Quantiles that are kept inside a band."""
WORDS = 200
"""Words of one kind that are told apart, the commonest."""
ABSENT = ""
LENGTHS = ("short", "middle", "long")
"""What `where` may say of `length` (events) and `duration` (seconds): thirds of the cases learnt from."""


class Words(msgspec.Struct, tag="words"):
    """Texts; 0 is any other, or none."""

    names: list[str]

    @classmethod
    def of(cls, values: Iterable[str]) -> Words:
        counted = Counter(value for value in values if value != ABSENT)
        return cls([ABSENT, *(word for word, _ in counted.most_common(WORDS))])

    @property
    def size(self) -> int:
        return len(self.names)

    def coded(self, values: Sequence[Any]) -> Codes:
        import numpy as np

        places = {name: at for at, name in enumerate(self.names)}
        return np.array([places.get(value, 0) for value in values], dtype=np.int64)

    def drawn(self, code: int, at: float) -> str:
        return self.names[code]


class Bands(msgspec.Struct, tag="bands"):
    """Numbers; code 0 is one that is not told. Bands are of equal counts, the last cut into eight once more, since
    the largest few make most of a sum."""

    edges: list[float]
    inner: list[list[float]]

    @classmethod
    def of(cls, values: Iterable[float], bands: int, tail: int = 8) -> Bands:
        import numpy as np

        known = np.array([value for value in values if value is not None], dtype=float)
        if not len(known):
            return cls([0.0], [[0.0] * INNER])
        last = 1 - 1 / bands
        levels = np.concatenate([np.linspace(0, last, bands), np.linspace(last, 1, tail + 1)[1:]])
        edges = np.unique(np.quantile(known, levels, method="lower"))
        made = cls([float(edge) for edge in edges], [])
        codes = made.coded(list(known))
        grid = np.linspace(0, 1, INNER)
        for band in range(1, made.size):
            members = known[codes == band]
            made.inner.append([float(n) for n in np.quantile(members, grid)] if len(members) else [0.0] * INNER)
        return made

    @property
    def size(self) -> int:
        return len(self.edges) + 1

    def coded(self, values: Sequence[float | None]) -> Codes:
        import numpy as np

        known = np.array([np.nan if value is None else value for value in values], dtype=float)
        found = np.searchsorted(np.array(self.edges), known, side="right").clip(1, len(self.edges))
        return np.where(np.isnan(known), 0, found).astype(np.int64)

    def drawn(self, code: int, at: float) -> float | None:
        """The number at quantile `at`, 0 to 1, of a band."""
        if code == 0:
            return None
        here = at * (INNER - 1)
        low = min(int(here), INNER - 2)
        inner = self.inner[code - 1]
        return inner[low] + (inner[low + 1] - inner[low]) * (here - low)


Channel = Words | Bands


class Coded(msgspec.Struct):
    """Cases as arrays. `activities`: case × event, 0 after the end, END at it, and so on from 2; `channels`: the same
    for each other thing that events have; `lengths`: events of each, its end included where it wasn't cut."""

    activities: Codes
    channels: dict[str, Codes]
    lengths: Codes
    conditions: Codes
    attributes: Codes


END = 1
"""Code of the end of a case; activities follow from 2 on."""


class Codebook(msgspec.Struct):
    """What each number stands for. `channels`: what events have beside their activity: time, resource, amounts;
    `conditions`: what can be asked for; `attributes`: what else is told of a case."""

    activities: list[str]
    channels: dict[str, Channel]
    conditions: dict[str, Channel]
    attributes: dict[str, Channel]
    longest: int
    """Events of the longest case."""

    @classmethod
    def of(cls, cases: Sequence[Case], conditions: Sequence[str], bands: int) -> Codebook:
        """Raises BadInput if a condition is in no case."""
        events = [event for case in cases for event in case.events]
        names = [name for name, _ in Counter(event.activity for event in events).most_common()]
        channels: dict[str, Channel] = {"after": Bands.of([event.after for event in events], bands)}
        if any(event.resource for event in events):
            channels["resource"] = Words.of(event.resource for event in events)
        for kind in sorted({kind for event in events for kind in event.amounts} - {"after", "resource"}):
            channels[kind] = Bands.of([event.amounts[kind] for event in events if kind in event.amounts], bands)
        told = sorted({name for case in cases for name in case.attributes})
        if missing := [name for name in conditions if name not in told]:
            raise BadInput(f"no case has the attribute {missing[0]!r}; they have {', '.join(told) or 'none'}")
        asked: dict[str, Channel] = {name: _attribute(cases, name) for name in conditions}
        asked["length"] = Bands.of([float(len(case.events)) for case in cases], 6, tail=1)
        asked["duration"] = Bands.of([case.seconds for case in cases], 12, tail=1)
        others = {name: _attribute(cases, name) for name in told if name not in conditions}
        return cls(names, channels, asked, others, max(len(case.events) for case in cases))

    def coded(self, cases: Sequence[Case], most: int) -> Coded:
        """At most `most` events of each; a case that is cut has no end."""
        import numpy as np

        whole = np.array([len(case.events) for case in cases], dtype=np.int64)
        lengths = np.minimum(whole + 1, most)
        shape = (len(cases), int(lengths.max()))
        places = {name: at for at, name in enumerate(self.activities, END + 1)}
        activities = np.zeros(shape, dtype=np.int64)
        channels = {name: np.zeros(shape, dtype=np.int64) for name in self.channels}
        for row, case in enumerate(cases):
            events = case.events[: lengths[row]]
            activities[row, : len(events)] = [places.get(event.activity, END + 1) for event in events]
            if whole[row] < lengths[row]:
                activities[row, whole[row]] = END
            for name, channel in self.channels.items():
                channels[name][row, : len(events)] = channel.coded([_of_event(event, name) for event in events])
        return Coded(activities, channels, lengths, self.conditions_of(cases), self._told(cases, self.attributes))

    def conditions_of(self, cases: Sequence[Case]) -> Codes:
        import numpy as np

        rows = [self._told(cases, {name: one for name, one in self.conditions.items() if name not in DERIVED})]
        rows.append(self.conditions["length"].coded([float(len(case.events)) for case in cases])[:, None])
        rows.append(self.conditions["duration"].coded([case.seconds for case in cases])[:, None])
        return np.concatenate(rows, axis=1)

    def _told(self, cases: Sequence[Case], channels: Mapping[str, Channel]) -> Codes:
        import numpy as np

        columns = [one.coded([_value(case, name, one) for case in cases]) for name, one in channels.items()]
        return np.stack(columns, axis=1) if columns else np.zeros((len(cases), 0), dtype=np.int64)

    def matching(self, rows: Codes, where: Mapping[str, str]) -> NDArray[np.bool_]:
        """Which of the coded conditions are as asked. Raises BadInput for what can't be asked for."""
        import numpy as np

        fits = np.ones(len(rows), dtype=bool)
        names = list(self.conditions)
        for name, value in where.items():
            if name not in names:
                raise BadInput(f"{name!r} is no condition of this generator; there are {', '.join(names)}")
            channel, codes = self.conditions[name], rows[:, names.index(name)]
            if isinstance(channel, Words):
                if value not in channel.names[1:]:
                    raise BadInput(f"no case had {name}={value}; there are {', '.join(channel.names[1:])}")
                fits &= codes == channel.names.index(value)
            elif value in LENGTHS:
                fits &= _third(codes) == LENGTHS.index(value)
            else:
                raise BadInput(f"{name} is one of {', '.join(LENGTHS)}, not {value!r}")
        return fits


DERIVED = ("length", "duration")


def event_of(name: str, values: Mapping[str, Any]) -> Event:
    """An event of what was drawn for it, by channel."""
    amounts = {
        kind: float(n) for kind, n in values.items() if kind not in ("after", "resource") and n is not None
    }  # fmt: skip
    return Event(name, float(values["after"] or 0.0), str(values.get("resource", ABSENT)), amounts)


def _of_event(event: Event, name: str) -> Any:
    if name in ("after", "resource"):
        return getattr(event, name)
    return event.amounts.get(name)


def _attribute(cases: Sequence[Case], name: str) -> Channel:
    values = [case.attributes[name] for case in cases if name in case.attributes]
    if all(isinstance(value, float | int) for value in values):
        return Bands.of([float(value) for value in values], 8, tail=1)
    return Words.of(str(value) for value in values)


def _value(case: Case, name: str, channel: Channel) -> Any:
    value = case.attributes.get(name)
    if isinstance(channel, Words):
        return ABSENT if value is None else str(value)
    return float(value) if isinstance(value, float | int) else None


def _third(codes: Codes) -> Codes:
    """0, 1 or 2: in which third of all cases a case lies, by its band."""
    import numpy as np

    order = np.sort(codes)
    ranks = (np.searchsorted(order, codes, side="left") + np.searchsorted(order, codes, side="right")) / 2
    return np.minimum(2, (3 * ranks / len(codes)).astype(np.int64))
