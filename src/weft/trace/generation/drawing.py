"""Drawing cases from a network, event by event, many at once.

Codes are drawn, not the likeliest taken (as published), which would make one case of each latent vector. The random
numbers of cases that are in the same place are spread evenly over [0, 1): each single one is as random as ever, but
together they come nearer to the probabilities than independent ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch

from weft.trace.generation.cases import Case, Event
from weft.trace.generation.coding import END, Channel, Codebook, Words, event_of

if TYPE_CHECKING:
    from weft.trace.generation.coding import Codes, Floats
    from weft.trace.generation.network import Network


@torch.no_grad()
def draw(network: Network, book: Codebook, rows: Codes, rng: np.random.Generator) -> list[Case]:
    """A case for each row of coded conditions; an empty one is drawn with an event at least."""
    count = len(rows)
    asked = network.asked(torch.from_numpy(rows))
    latent = torch.from_numpy(rng.standard_normal((count, network.mean.out_features))).float()
    plan = network.plan(torch.cat([latent, asked], dim=1))
    attributes = _attributes(network, plan, rng)
    codes = np.zeros((count, book.longest), dtype=np.int64)
    channels = np.zeros((count, book.longest, len(book.channels)), dtype=np.int64)
    running = np.arange(count)
    last, before = np.zeros(count, dtype=np.int64), torch.zeros((count, 1, _width(network)))
    elapsed, state = torch.zeros((count, 1)), None
    for step in range(book.longest):
        held, state = network.write(plan, before, network.clocks(torch.full_like(elapsed, step), elapsed), state)
        scores = network.says_activity(held[:, 0])
        scores[:, 0] = -torch.inf  # nothing
        if step == 0:
            scores[:, END] = -torch.inf
        drawn = _drawn(scores, last, rng)
        going = drawn != END
        running, drawn = running[going], drawn[going]
        if not len(running):
            break
        keep = torch.from_numpy(going)
        held, plan, elapsed, state = held[keep], plan[keep], elapsed[keep], _kept(state, keep)
        of = torch.from_numpy(drawn)
        beside = [_drawn(network.channel(at, held[:, 0], of), drawn, rng) for at in range(channels.shape[2])]
        codes[running, step], channels[running, step] = drawn, np.stack(beside, axis=1)
        told = torch.from_numpy(channels[running, step])
        last, before = drawn, network.events(of[:, None], told[:, None])
        elapsed = elapsed + network.seconds[told[:, :1]]
    return [_case(book, rows[at], attributes[at], codes[at], channels[at], rng) for at in range(count)]


def _width(network: Network) -> int:
    return network.activity.embedding_dim * (1 + len(network.channels))


def _kept(state: torch.Tensor | tuple[torch.Tensor, ...], keep: torch.Tensor) -> torch.Tensor:
    """Of the cases that go on; an LSTM has two parts."""
    if isinstance(state, tuple):
        return tuple(one[:, keep] for one in state)  # type: ignore[return-value]
    return state[:, keep]


def _drawn(scores: torch.Tensor, groups: Codes, rng: np.random.Generator) -> Codes:
    """A code of each row, by the soft-max of its scores; random numbers are spread evenly in each group of rows."""
    total = torch.softmax(scores.double(), dim=1).numpy().cumsum(axis=1)
    at = evenly(groups, rng) * total[:, -1]
    found: Codes = (total <= at[:, None]).sum(axis=1)
    return np.minimum(found, scores.shape[1] - 1)


def evenly(groups: Codes, rng: np.random.Generator) -> Floats:
    """A random number from [0, 1) for each; of a group of n, one lies in each n-th."""
    order = np.lexsort((rng.random(len(groups)), groups))
    ordered = groups[order]
    first = np.searchsorted(ordered, ordered, side="left")
    size = np.searchsorted(ordered, ordered, side="right") - first
    found: Floats = np.empty(len(groups))
    found[order] = (np.arange(len(groups)) - first + rng.random(len(groups))) / size
    return found


def _attributes(network: Network, plan: torch.Tensor, rng: np.random.Generator) -> Codes:
    if network.says_attributes is None:
        return np.zeros((len(plan), 0), dtype=np.int64)
    scores = network.says_attributes(plan).split(network.attribute_sizes, dim=1)
    nobody = np.zeros(len(plan), dtype=np.int64)
    return np.stack([_drawn(one, nobody, rng) for one in scores], axis=1)


def _case(
    book: Codebook, row: Codes, attributes: Codes, codes: Codes, channels: Codes, rng: np.random.Generator
) -> Case:
    events: list[Event] = []
    for code, beside in zip(codes, channels, strict=True):
        if code == 0:
            break
        values = {
            name: one.drawn(int(said), rng.random())
            for (name, one), said in zip(book.channels.items(), beside, strict=True)
        }
        if not events:
            values["after"] = 0.0
        events.append(event_of(book.activities[code - END - 1], values))
    told = _told(book.attributes, attributes, rng)
    asked = {name: one for name, one in book.conditions.items() if isinstance(one, Words)}
    places = list(book.conditions)
    told |= _told(asked, row[[places.index(name) for name in asked]], rng)
    return Case("", events, told)


def _told(channels: Mapping[str, Channel], codes: Codes, rng: np.random.Generator) -> dict[str, str | float]:
    found = {
        name: one.drawn(int(code), rng.random()) for (name, one), code in zip(channels.items(), codes, strict=True)
    }
    return {name: value for name, value in found.items() if value not in (None, "")}
