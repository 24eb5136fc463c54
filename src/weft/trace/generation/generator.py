"""`fit` and the `Generator` that it returns: more cases like those it was fitted to, of the kinds that are asked for.

What is asked for are conditions: attributes such as outcome and model, and `length` and `duration` as thirds. What is
left open is taken as the cases had it, spread evenly, so that a log of 157 cases has the same mix as one of a million.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from weft.core.errors import BadInput, MissingExtra
from weft.trace.generation.cases import Case
from weft.trace.generation.coding import DERIVED, LENGTHS, Codebook, Words

if TYPE_CHECKING:
    import numpy as np

    from weft.trace.generation.coding import Codes
    from weft.trace.generation.network import Network
    from weft.trace.generation.validity import Validity

CONDITIONS = ("outcome", "label", "model")
"""Attributes that are conditions where nothing else is said and cases have them."""
FEWEST = 10
"""Cases that are needed."""
ROUNDS = 20
"""How often what was rejected is made anew."""


class Settings(msgspec.Struct, frozen=True):
    """The network and its training. The defaults are fitted in minutes on one core; `Settings.published()` has the
    published size, which takes hours.

    `bands`: classes that a number is told in; `most`: events of a case that are learnt from; `rate`: of Adam at first;
    `dropout`: share of hidden units; `forget`: share of earlier events that is hidden from the decoder in training;
    `cycles`: of the weight of the divergence.
    """

    cell: Literal["gru", "lstm"] = "gru"
    hidden: int = 64
    latent: int = 10
    embedding: int = 16
    bands: int = 24
    most: int = 64
    epochs: int = 150
    batch: int = 64
    rate: float = 4e-3
    dropout: float = 0.1
    forget: float = 0.2
    cycles: int = 3
    seed: int = 0

    @classmethod
    def published(cls) -> Settings:
        """As in arXiv 2411.02131: LSTM of 200, latent vectors of 10, embeddings of 5."""
        return cls("lstm", 200, 10, 5, 24, 50, 4_000, 256, 3e-4, 0.05, 0.0, 2)

    def __post_init__(self) -> None:
        for name in ("hidden", "latent", "embedding", "epochs", "batch", "cycles"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is at least 1, not {getattr(self, name)}")
        if self.bands < 2 or self.most < 2:
            raise BadInput("bands and most are at least 2")
        if not (0 <= self.dropout < 1 and 0 <= self.forget < 1 and self.rate > 0):
            raise BadInput("dropout and forget are shares, from 0 to below 1, and rate is above 0")


class Step(msgspec.Struct, frozen=True):
    """After an epoch. `missed` and `divergence`: nats for each case, by the sum of which the network is judged."""

    epoch: int
    epochs: int
    missed: float
    divergence: float


class Told(msgspec.Struct):
    """What a generator keeps beside its network. `rows`: the conditions of the cases it was fitted to, coded; `gaps`:
    seconds between their beginnings."""

    settings: Settings
    book: Codebook
    rows: list[list[int]]
    gaps: list[float]


def fit(
    cases: Sequence[Case],
    conditions: Sequence[str] | None = None,
    settings: Settings | None = None,
    progress: Callable[[Step], None] | None = None,
) -> Generator:
    """A generator of cases like these. `conditions`: attributes that can be asked for (default: those of outcome, label
    and model that cases have), beside `length` and `duration`, which always can. `progress` is called after each epoch.

    Raises BadInput for fewer than 10 cases, or conditions that they lack; MissingExtra without the extra `torch`.
    """
    needed()
    settings = settings or Settings()
    cases = [case for case in cases if case.events]
    if len(cases) < FEWEST:
        raise BadInput(f"a generator needs at least {FEWEST} cases that have events; there are {len(cases)}")
    if conditions is None:
        conditions = [name for name in CONDITIONS if any(name in case.attributes for case in cases)]
    from weft.trace.generation.training import train

    book = Codebook.of(cases, conditions, settings.bands)
    coded = book.coded(cases, settings.most)
    starts = sorted(case.start for case in cases)
    gaps = [after - before for before, after in pairwise(starts)]
    network = train(settings, book, coded, progress)
    return Generator(Told(settings, book, coded.conditions.tolist(), gaps), network)


class Generator:
    """Made by `fit` and by `Generator.load`."""

    def __init__(self, told: Told, network: Network) -> None:
        self.told = told
        self.network = network
        self.rejected = 0
        """Cases of the last `generate` that were not valid, and made anew."""

    @property
    def conditions(self) -> dict[str, list[str]]:
        """What can be asked for."""
        found = self.told.book.conditions
        return {name: one.names[1:] if isinstance(one, Words) else [*LENGTHS] for name, one in found.items()}

    def generate(
        self,
        n: int,
        where: Mapping[str, str] | None = None,
        mix: Mapping[str, float] | None = None,
        valid: Validity | None = None,
        seed: int = 0,
    ) -> list[Case]:
        """`n` cases, all of them as `where` says. `mix`: shares of the values of one condition, such as
        {"failed": 0.3}; the values it does not name share the rest as they did. `valid`: what does not pass is made
        anew. The same seed gives the same cases.

        Raises BadInput for conditions that no case met, and if hardly anything passes `valid`.
        """
        import numpy as np

        if n < 0:
            raise BadInput(f"n is from 0 on, not {n}")
        rng = np.random.default_rng(seed)
        rows = self._rows(n, dict(where or {}), dict(mix or {}), rng)
        made: dict[int, Case] = {}
        self.rejected = 0
        for attempt in range(ROUNDS):
            missing = [at for at in range(n) if at not in made]
            if not missing:
                break
            if attempt >= ROUNDS // 2:  # what was not asked for may be what can't be valid
                rows[missing] = self._others(rows[missing], where or {}, rng)
            for at, case in zip(missing, self._draw(rows[missing], rng), strict=True):
                if valid is None or valid.passes(case):
                    made[at] = case
                else:
                    self.rejected += 1
        if len(made) < n:
            raise BadInput(f"of {n} cases only {len(made)} were valid after {ROUNDS} attempts; fit longer, or ask less")
        starts = np.cumsum(rng.choice(self.told.gaps or [0.0], size=n))
        return [
            msgspec.structs.replace(made[at], id=f"made-{at + 1:0{len(str(n))}d}", start=float(starts[place]))
            for place, at in enumerate(rng.permutation(n))
        ]

    def _rows(self, n: int, where: dict[str, str], mix: dict[str, float], rng: np.random.Generator) -> Codes:
        """The coded conditions of n cases: those of cases it was fitted to, at even distances in their order."""
        import numpy as np

        known = np.array(self.told.rows, dtype=np.int64)
        fits = self.told.book.matching(known, where)
        parts = [(fits & one, share) for one, share in self._shares(known, mix)] if mix else [(fits, 1.0)]
        parts = [(chosen, share) for chosen, share in parts if share > 0]
        if any(not chosen.any() for chosen, _ in parts):
            raise BadInput(f"no case that this generator was fitted to is as {_written(where)} asks")
        ends = np.round(n * np.cumsum([share for _, share in parts])).astype(int)
        found = []
        for (chosen, _), count in zip(parts, np.diff([0, *ends]), strict=True):
            rows = known[chosen]
            rows = rows[np.lexsort(rows.T[[-2, *range(rows.shape[1] - 2), -1]])]
            places = (np.arange(count) + rng.random()) * len(rows) / max(1, count)
            found.append(rows[places.astype(int) % len(rows)])
        return np.concatenate(found)

    def _others(self, rows: Codes, where: Mapping[str, str], rng: np.random.Generator) -> Codes:
        """Other lengths and durations, if these were not asked for, of cases that were else alike."""
        import numpy as np

        known = np.array(self.told.rows, dtype=np.int64)
        known = known[self.told.book.matching(known, where)]
        alike = [np.flatnonzero((known[:, : -len(DERIVED)] == row[: -len(DERIVED)]).all(axis=1)) for row in rows]
        return known[[rng.choice(places) for places in alike]]

    def _shares(self, known: Codes, mix: dict[str, float]) -> list[tuple[Any, float]]:
        import numpy as np

        kinds = {name: one for name, one in self.told.book.conditions.items() if isinstance(one, Words)}
        named = [name for name, one in kinds.items() if mix.keys() <= set(one.names[1:])]
        if len(named) != 1:
            there = "; ".join(f"{name}: {', '.join(one.names[1:])}" for name, one in kinds.items())
            raise BadInput(f"a mix names values of one condition, not {', '.join(mix)}. There are {there or 'none'}")
        rest = 1 - sum(mix.values())
        if not (all(0 <= share <= 1 for share in mix.values()) and rest >= -1e-9):
            raise BadInput("the shares of a mix are from 0 to 1, and 1 at most together")
        names = kinds[named[0]].names
        codes = known[:, list(self.told.book.conditions).index(named[0])]
        found = [(codes == names.index(value), share) for value, share in mix.items()]
        others = ~np.any([one for one, _ in found], axis=0)
        if rest > 1e-9:
            found.append((others, rest))
        return found

    def _draw(self, rows: Codes, rng: np.random.Generator) -> list[Case]:
        from weft.trace.generation.drawing import draw

        return draw(self.network, self.told.book, rows, rng)

    # --- kept ---

    def save(self, path: Path) -> None:
        """Into one file."""
        import torch

        told = msgspec.json.encode(self.told).decode()
        torch.save({"weft_generator": told, "weights": self.network.state_dict()}, path)

    @classmethod
    def load(cls, path: Path) -> Generator:
        """Raises BadInput if the file is no generator, MissingExtra without the extra `torch`."""
        needed()
        import torch

        from weft.trace.generation.training import network_of

        try:
            kept = torch.load(path, weights_only=True)
            told = msgspec.json.decode(kept["weft_generator"], type=Told)
            network = network_of(told.settings, told.book)
            network.load_state_dict(kept["weights"])
        except FileNotFoundError:
            raise BadInput(f"there is no file {path}; fit a generator, and save it there") from None
        except Exception as error:  # of whatever kind a file that is something else makes torch raise
            raise BadInput(
                f"{path} is no generator that this version of Weft kept; fit one anew, and save it"
            ) from error
        return cls(told, network.eval())


def needed() -> None:
    """Raises MissingExtra without the extra `torch`."""
    try:
        import numpy  # noqa: F401
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtra("generating runs needs the extra `torch`: pip install 'weft[torch]'") from error


def _written(where: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in where.items()) or "the mix"
