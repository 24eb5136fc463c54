"""The engine itself: plain batched decoding beside the wheel's own server, states that come back bit for bit, a crash.

Everything is in seconds of CPU of the process that computes (and of ours, for the engine), so a busy machine is fair.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import weft.model
from benchmarks.report import Measure, Report
from weft.model.client import Server, exchange
from weft.model.dialect import Call
from weft.model.dialect.chat import Embedded
from weft.model.engine import Feed, LlamaServer, LocalEngine, open_engine

MODEL = "smollm2-135m"
PROMPT = "The old man went down to the sea, and there he saw"
AT_ONCE = 4
"""Generations that are decoded together."""


def figures(report: Report, quick: bool) -> None:
    asyncio.run(_measure(report, quick))


async def _measure(report: Report, quick: bool) -> None:
    engine = await open_engine(weft.model.fetch(MODEL), cells=4096, sequences=16)
    try:
        await _decoding(report, engine, rounds=5 if quick else 7, tokens=12 if quick else 64)
        await _saved(report, engine, length=100 if quick else 1000)
        await _crashed(report, engine)
    finally:
        await engine.close()


# --- plain batched decoding -----------------------------------------------------------------------------------------


async def _decoding(report: Report, engine: LocalEngine, rounds: int, tokens: int) -> None:
    """In turns, so that both meet the same machine."""
    server = LlamaServer(MODEL, weft.model.fetch(MODEL), AT_ONCE, 1024)
    ours, theirs = [], []
    try:
        await _served(server, 2)  # warm
        await _decoded(engine, 2)
        for _ in range(rounds):
            ours.append(AT_ONCE * tokens / await _decoded(engine, tokens))
            theirs.append(AT_ONCE * tokens / await _served(server, tokens))
    finally:
        server.close()
    note = f"{AT_ONCE} at once, {tokens} tokens each, greedy, one thread"
    report.add("decoding", Measure(name="Weft's engine", unit="tokens/CPU-s", runs=ours, note=note))
    report.add("decoding", Measure(name="the wheel's server", unit="tokens/CPU-s", runs=theirs, note=note))
    ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
    report.bar("decoding", "throughput over that of the wheel's own server", ratio, least=0.95, unit="x")


async def _decoded(engine: LocalEngine, tokens: int) -> float:
    """CPU seconds of the engine and of this process."""
    began = engine.cpu() + time.process_time()
    prompt = await engine.tokenize(PROMPT)
    sequences = [await engine.sequence() for _ in range(AT_ONCE)]
    feeds = [prompt] * AT_ONCE
    for _ in range(tokens):
        told = await engine.step([Feed(s, f) for s, f in zip(sequences, feeds, strict=True)])
        feeds = [heard.tokens for heard in told]
    for sequence in sequences:
        await sequence.close()
    return engine.cpu() + time.process_time() - began


async def _served(server: LlamaServer, tokens: int) -> float:
    """CPU seconds of the server alone."""
    address = await asyncio.to_thread(server.address)
    assert server.pid is not None
    began = cpu(server.pid)
    where = Server(address.url, address.key, MODEL, 600)
    body: dict[str, Any] = {"prompt": PROMPT, "n_predict": tokens, "temperature": 0, "ignore_eos": True}
    body |= {"cache_prompt": False, "samplers": ["top_k"], "top_k": 1}
    await asyncio.gather(*[exchange(where, Embedded(), Call("/completion", body)) for _ in range(AT_ONCE)])
    return cpu(server.pid) - began


def cpu(pid: int) -> float:
    """Seconds of CPU of a process, all its threads, to the nanosecond where the kernel tells."""
    return sum(int(task.read_text().split()[0]) for task in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


# --- states ---------------------------------------------------------------------------------------------------------


async def _saved(report: Report, engine: LocalEngine, length: int) -> None:
    """What a saved state saves, and whether it is the same."""
    tokens = (await engine.tokenize(PROMPT * 100))[:length]
    sequence, other = await engine.sequence(), await engine.sequence()
    began = engine.cpu()
    await engine.step([Feed(sequence, tokens, "none", None)])
    prefill = engine.cpu() - began
    saved = await sequence.save()
    times = []
    for _ in range(5):
        start = time.process_time() + engine.cpu()
        await other.restore(saved)
        times.append(time.process_time() + engine.cpu() - start)
    one, two = await engine.step([Feed(each, [30], logits=True) for each in (sequence, other)])
    same = float(np.array_equal(one.logits, two.logits))
    name, note = f"{length} tokens", f"{len(saved) / len(tokens) / 1000:.1f} kB a token"
    report.add("states", Measure(name=f"{name}, computed", unit="CPU-s", runs=[prefill]))
    report.add("states", Measure(name=f"{name}, restored", unit="CPU-s", runs=times, note=note))
    report.bar("states", "a restored sequence goes on with the same bits", same, least=1, most=1)
    await sequence.close()
    await other.close()


async def _crashed(report: Report, engine: LocalEngine) -> None:
    """Kill -9 between two tokens of a saved sequence."""
    sequence = await engine.sequence()
    await engine.step([Feed(sequence, await engine.tokenize(PROMPT), "none", None)])
    fork = await sequence.fork()
    (before,) = await engine.step([Feed(fork, [30], logits=True)])
    await sequence.save()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    (after,) = await engine.step([Feed(sequence, [30], logits=True)])
    same = float(np.array_equal(before.logits, after.logits))
    report.bar("crash", "after kill -9 a saved sequence goes on with the same bits", same, least=1, most=1)
    await sequence.close()
    await fork.close()
