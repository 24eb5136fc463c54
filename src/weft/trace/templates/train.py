"""Train the tagger of `weft.core.lines` on made-up lines: `python -m weft.trace.templates.train [--lines N] [FILE]`

Multinomial logistic regression on hashed features by Adagrad, two minutes on one core; numpy (the extra `embed`) is
needed here only. Prints how many words of lines it did not see are tagged right.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from weft.core.lines.tagger import ROWS, SCALE, TAGS, Tagger, features, windows
from weft.trace.templates.corpus import made

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def examples(lines: int, seed: int) -> tuple[NDArray[np.int32], NDArray[np.int8]]:
    """Rows of features (words × features) and the true tag of each."""
    import numpy as np

    rows, tags = [], []
    for line in made(lines, seed):
        for place, window in windows([piece for piece, _ in line]):
            rows.append(features(window))
            tags.append(TAGS.index(line[place][1]))
    return np.array(rows, dtype=np.int32), np.array(tags, dtype=np.int8)


def fitted(
    rows: NDArray[np.int32], tags: NDArray[np.int8], passes: int = 6, batch: int = 256, rate: float = 0.25,
    decay: float = 1e-6, seed: int = 0,
) -> NDArray[np.float32]:  # fmt: skip
    """Weights, ROWS × tags, of the softmax that tells the tags best."""
    import numpy as np

    weights = np.zeros((ROWS, len(TAGS)), dtype=np.float32)
    squares = np.full((ROWS, len(TAGS)), 1e-3, dtype=np.float32)
    order = np.random.default_rng(seed)
    for _ in range(passes):
        for some in np.array_split(order.permutation(len(tags)), max(1, len(tags) // batch)):
            used = rows[some]
            sums = weights[used].sum(axis=1)
            sums -= sums.max(axis=1, keepdims=True)
            likely = np.exp(sums)
            likely /= likely.sum(axis=1, keepdims=True)
            likely[np.arange(len(some)), tags[some]] -= 1.0
            flat = used.ravel()
            touched, inverse = np.unique(flat, return_inverse=True)
            step = np.zeros((len(touched), len(TAGS)), dtype=np.float32)
            np.add.at(step, inverse.ravel(), np.repeat(likely, used.shape[1], axis=0))
            step /= len(some)
            step += decay * np.sign(weights[touched])
            squares[touched] += step * step
            weights[touched] -= rate * step / np.sqrt(squares[touched])
    return weights


def main() -> None:
    import numpy as np

    import weft.core.lines

    there = Path(weft.core.lines.__file__).with_name("tagger.bin")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", nargs="?", type=Path, default=there, help="where the weights go [default: into Weft]")
    parser.add_argument("--lines", type=int, default=40_000, help="lines to train on")
    given = parser.parse_args()
    began = time.process_time()
    weights = fitted(*examples(given.lines, seed=1))
    stored = np.clip(np.rint(weights * SCALE), -127, 127).astype(np.int8)
    given.file.write_bytes(stored.tobytes())
    tagger, right, variable, total = Tagger(stored.ravel().tolist()), 0, 0, 0
    for line in made(2_000, seed=2):
        for place, category, sure in tagger.tags([piece for piece, _ in line]):
            total += 1
            right += (category if sure >= 0.5 else "") == line[place][1]
            variable += (sure >= 0.5) == bool(line[place][1])
    print(f"{given.file}: {len(stored.tobytes()):,} bytes, {time.process_time() - began:.0f} CPU-s")
    print(f"made-up lines it did not see: {total:,} words, {right / total:.3f} tagged right")
    print(f"as variable or not: {variable / total:.3f}")


if __name__ == "__main__":
    main()
