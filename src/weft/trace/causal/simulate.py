"""Simulated events of an organisation, by a clock for each actor, after OrgForge (github.com/aeriesec/orgforge).

Each actor has a cursor. *Ambient* work starts anywhere in the next hours of one actor, whose cursor moves to its end.
*Causal* work is shared: all who take part go to the latest of their cursors, and none before what it comes from is
over; then time goes on by a chance amount: 1 to 4 minutes in an incident, 3 to 12 else, 10 to 35 for what is answered
later. Work begins within business hours, but for incidents. Nothing here happened: it is for tests of what reads
chains.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Literal

from weft.core.errors import BadInput
from weft.trace.causal.events import Event

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
OPENS, CLOSES = 9 * HOUR, 17.5 * HOUR
TAKES: dict[str, tuple[float, float]] = {
    "incident": (1 * MINUTE, 4 * MINUTE),
    "normal": (3 * MINUTE, 12 * MINUTE),
    "async": (10 * MINUTE, 35 * MINUTE),
}
"""Seconds that an event takes, by its kind."""
Pace = Literal["incident", "normal", "async"]


def simulated(count: int, actors: int = 20, seed: int = 0, ambient: float = 0.3) -> Iterator[Event]:
    """So many events of so many actors, the same for the same seed. `ambient`: the share of them that come of nothing.
    Raises BadInput for fewer than two actors."""
    if actors < 2 or count < 0:
        raise BadInput(
            f"simulated(count={count}, actors={actors}): it takes 2 actors at least, and no fewer than 0 events"
        )
    clocks = _Clocks(actors, random.Random(seed))
    number = incident = 0
    while number < count:
        if clocks.chance.random() < ambient:
            yield clocks.ambient(number)
            number += 1
            continue
        incident += 1
        for event in clocks.chain(number, f"incident-{incident}", min(clocks.chance.randint(2, 8), count - number)):
            yield event
            number += 1


class _Clocks:
    """A cursor for each actor: until when it is busy."""

    def __init__(self, actors: int, chance: random.Random) -> None:
        self.cursors = {f"actor-{number}": OPENS for number in range(actors)}
        self.names = [*self.cursors]
        self.chance = chance

    def ambient(self, number: int) -> Event:
        (actor,) = self.chance.sample(self.names, 1)
        begin = _open(self.cursors[actor] + self.chance.uniform(0, 2 * HOUR))
        end = begin + self.chance.uniform(*TAKES["normal"])
        self.cursors[actor] = end
        return Event(id=f"e{number}", name="ambient", actors=(actor,), begin=begin, end=end)

    def chain(self, number: int, incident: str, length: int) -> Iterator[Event]:
        """Events that come of each other. Each writes an artefact, and reads those that it comes from."""
        made: list[Event] = []
        for at in range(length):
            causes = self.chance.sample(made, min(len(made), self.chance.randint(1, 2)))
            pace: Pace = self.chance.choice(("incident", "normal", "async"))
            actors = self.chance.sample(self.names, self.chance.randint(1, min(3, len(self.names))))
            begin = max([self.cursors[actor] for actor in actors] + [cause.end for cause in causes])
            begin = begin if pace == "incident" else _open(begin)
            end = begin + self.chance.uniform(*TAKES[pace])
            self.cursors.update(dict.fromkeys(actors, end))
            made.append(
                Event(
                    id=f"e{number + at}", name=pace, actors=tuple(actors), begin=begin, end=end, incident=incident,
                    causes=tuple(cause.id for cause in causes), writes=(f"{incident}/{at}",),
                    reads=tuple(written for cause in causes for written in cause.writes),
                )
            )  # fmt: skip
            yield made[-1]


def _open(moment: float) -> float:
    """This moment, or the next one in business hours."""
    day, hour = divmod(moment, DAY)
    if hour < OPENS:
        return day * DAY + OPENS
    return moment if hour <= CLOSES else (day + 1) * DAY + OPENS
