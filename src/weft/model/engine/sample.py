"""Drawing tokens from logits. A draw depends on the logits, the sampling and the position, and on nothing else.

No generator of random numbers is kept: the number for a position is a hash of the seed and the position, so a
generation that is begun again, batched otherwise, or resumed half-way, draws as it would have.
"""

from __future__ import annotations

import hashlib
import math
import struct
from typing import TYPE_CHECKING

from weft.core.errors import BadInput
from weft.model.engine.protocol import Sampling

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Row = NDArray[np.float32]


def check_sampling(sampling: Sampling) -> None:
    """Raises BadInput for one that means nothing."""
    if not (0 <= sampling.temperature < math.inf and 0 < sampling.top_p <= 1 and sampling.top_k >= 0):
        raise BadInput(
            "a sampling has a temperature from 0 on, top_p above 0 and up to 1, and top_k from 0 on; not "
            f"{sampling.temperature}, {sampling.top_p}, {sampling.top_k}"
        )
    if not -(1 << 63) <= sampling.seed < 1 << 63:
        raise BadInput("a seed has at most 63 bits and a sign")


def draw(
    row: Row,
    sampling: Sampling,
    position: int,
    allow: bytes | None = None,
    bias: dict[int, float] | None = None,
) -> int:
    """The token for `position`, drawn from the logits `row`."""
    import numpy as np

    scores = masked(biased(row, bias) if bias else row, allow)
    if sampling.temperature <= 0:
        return int(scores.argmax())
    kept = sampling.top_k or len(scores)
    if kept < len(scores):
        tokens = np.argpartition(-scores, kept - 1)[:kept]
        tokens.sort()
    else:
        tokens = np.arange(len(scores))
    order = tokens[np.argsort(-scores[tokens], kind="stable")]
    weights = np.exp((scores[order].astype(np.float64) - float(scores[order[0]])) / sampling.temperature)
    total = np.cumsum(weights[weights > 0])
    if sampling.top_p < 1:
        total = total[: int(np.searchsorted(total, sampling.top_p * total[-1])) + 1]
    place = int(np.searchsorted(total, number(sampling.seed, position) * total[-1], side="right"))
    return int(order[min(place, len(total) - 1)])


def number(seed: int, position: int) -> float:
    """The number from 0 up to 1 that decides the draw for a position."""
    digest = hashlib.blake2b(struct.pack("<QQ", seed & (1 << 64) - 1, position), digest_size=8).digest()
    return float(int.from_bytes(digest, "little") >> 11) / (1 << 53)


def likeliest(row: Row, count: int, allow: bytes | None = None, drawn: int | None = None) -> list[tuple[int, float]]:
    """The `count` likeliest tokens, likeliest first, and their log-probabilities among those allowed; `drawn` is told
    last if it is none of them."""
    import numpy as np

    scores = masked(row, allow).astype(np.float64)
    top = float(scores.max())
    norm = top + float(np.log(np.exp(scores - top).sum()))
    count = min(count, len(scores))
    best = np.argpartition(-scores, count - 1)[:count]
    best = best[np.lexsort((best, -scores[best]))]
    if drawn is not None and drawn not in best:
        best = np.append(best, drawn)
    return [(int(token), float(scores[token]) - norm) for token in best if scores[token] > -np.inf]


def biased(row: Row, bias: dict[int, float]) -> Row:
    """The logits, with something added to some."""
    import numpy as np

    changed = row.copy()
    changed[np.fromiter(bias, np.int64)] += np.fromiter(bias.values(), np.float32)
    return changed


def masked(row: Row, allow: bytes | None) -> Row:
    """The logits, those of tokens that are not allowed at minus infinity."""
    import numpy as np

    if allow is None:
        return row
    bits = np.unpackbits(np.frombuffer(allow, np.uint8), bitorder="little")[: len(row)]
    return np.where(bits[: len(row)].astype(bool), row, np.float32(-np.inf))
