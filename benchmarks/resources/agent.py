"""Plays the memory of one agent over time: `python -m benchmarks.resources.agent`, levels and seconds between them as
JSON on standard input. Says how long it took and how long each growth did. A program of its own, without Weft: it is
the load."""

from __future__ import annotations

import json
import mmap
import sys
import time

PIECE = 2**18
PAGE = mmap.PAGESIZE


def play(levels: list[int], seconds: float) -> dict[str, object]:
    kept: list[mmap.mmap] = []
    stalls: list[float] = []
    began = time.perf_counter()
    for level in levels:
        step = time.perf_counter()
        pieces = level // PIECE
        while len(kept) > pieces:
            kept.pop().close()
        if len(kept) < pieces:
            while len(kept) < pieces:
                piece = mmap.mmap(-1, PIECE)
                for at in range(0, PIECE, PAGE):
                    piece[at] = 1
                kept.append(piece)
            stalls.append((time.perf_counter() - step) * 1000)
        time.sleep(max(0.0, seconds - (time.perf_counter() - step)))
    return {"seconds": time.perf_counter() - began, "stalls": stalls}


if __name__ == "__main__":
    given = json.loads(sys.stdin.read())
    print(json.dumps(play(given["levels"], given["every"])), flush=True)
