"""The generator of runs: what it makes is of the kind that was asked for, new, and valid; and it can be kept."""

from __future__ import annotations

import gzip
import io
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.core.errors import BadInput
from weft.trace.generation import (
    Case,
    Event,
    Generator,
    Settings,
    Step,
    Validity,
    fit,
    read_cases,
    rules_of,
    write_cases,
)
from weft.trace.generation.coding import Bands, Words

np = pytest.importorskip("numpy", reason="the extra `torch`")
pytest.importorskip("torch", reason="the extra `torch`")

SMALL = Settings(hidden=24, latent=4, embedding=6, epochs=30, batch=16, most=20, rate=1e-2)


def cases(n: int = 120) -> list[Case]:
    """Those that fail try three to six times and take long; those that do well read, write and test."""
    rng = np.random.default_rng(5)
    made = []
    for number in range(n):
        bad = number % 4 == 0
        middle = ["try"] * int(rng.integers(3, 7)) if bad else ["read", "write"][: int(rng.integers(1, 3))]
        names = ["begin", *middle, "stop" if bad else "test"]
        events = [
            Event(name, 0.0 if at == 0 else float(rng.exponential(60 if bad else 2)), "model", {"tokens": 10.0 + at})
            for at, name in enumerate(names)
        ]
        told: dict[str, str | float] = {"outcome": "failed" if bad else "done", "size": float(number % 5)}
        made.append(Case(f"c{number}", events, told, float(number)))
    return made


@pytest.fixture(scope="module")
def fitted() -> Generator:
    return fit(cases(), settings=SMALL)


def test_what_is_made_is_of_the_kind_that_was_asked_for(fitted: Generator) -> None:
    failed = fitted.generate(60, where={"outcome": "failed"})
    done = fitted.generate(60, where={"outcome": "done"})
    assert {case.attributes["outcome"] for case in failed} == {"failed"}
    assert sum("try" in case.activities for case in failed) >= 54
    assert sum("try" in case.activities for case in done) <= 6
    assert np.mean([case.seconds for case in failed]) > 5 * np.mean([case.seconds for case in done])


def test_length_and_duration_are_conditions(fitted: Generator) -> None:
    short = fitted.generate(40, where={"length": "short"})
    long = fitted.generate(40, where={"length": "long"})
    assert np.mean([len(case.events) for case in long]) > 1.3 * np.mean([len(case.events) for case in short])
    assert fitted.conditions["duration"] == ["short", "middle", "long"]


def test_a_mix_has_the_shares_that_were_asked_for(fitted: Generator) -> None:
    made = fitted.generate(50, mix={"failed": 0.7})
    assert sum(case.attributes["outcome"] == "failed" for case in made) == 35
    plain = fitted.generate(80)
    assert sum(case.attributes["outcome"] == "failed" for case in plain) in (19, 20, 21)


def test_what_is_made_is_whole(fitted: Generator) -> None:
    made = fitted.generate(30)
    assert len({case.id for case in made}) == 30
    assert [case.start for case in made] == sorted(case.start for case in made)
    for case in made:
        assert case.events[0].after == 0
        assert {event.resource for event in case.events} == {"model"}
        assert all(10 <= event.amounts["tokens"] <= 18 for event in case.events)
        assert 0 <= case.attributes["size"] <= 4  # type: ignore[operator]


def test_the_same_seed_makes_the_same(fitted: Generator) -> None:
    assert fitted.generate(5, seed=3) == fitted.generate(5, seed=3)
    assert fitted.generate(5, seed=3) != fitted.generate(5, seed=4)


def test_a_generator_is_kept_in_a_file(fitted: Generator, tmp_path: Path) -> None:
    fitted.save(tmp_path / "one.pt")
    assert Generator.load(tmp_path / "one.pt").generate(5) == fitted.generate(5)


def test_a_file_that_is_no_generator_is_told(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(BadInput, match="no generator"):
        Generator.load(tmp_path / "text")
    with pytest.raises(BadInput, match="there is no file"):
        Generator.load(tmp_path / "nothing")


def test_fitting_tells_how_far_it_is_and_gets_better() -> None:
    said: list[Step] = []
    fit(cases(40), settings=Settings(hidden=8, latent=2, embedding=4, epochs=6, batch=8), progress=said.append)
    assert [step.epoch for step in said] == [1, 2, 3, 4, 5, 6]
    assert said[-1].missed < said[0].missed


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_either_cell_makes_cases(cell: Any) -> None:
    tiny = Settings(cell, hidden=8, latent=2, embedding=4, epochs=1)
    assert len(fit(cases(20), settings=tiny).generate(7)) == 7


@pytest.mark.parametrize(
    ("asked", "why"),
    [
        ({"where": {"colour": "red"}}, "no condition of this generator"),
        ({"where": {"outcome": "lost"}}, "no case had outcome=lost"),
        ({"where": {"length": "huge"}}, "length is one of short, middle, long"),
        ({"mix": {"failed": 0.8, "done": 0.4}}, "1 at most together"),
        ({"mix": {"failed": -0.1}}, "from 0 to 1"),
        ({"mix": {"lost": 0.5}}, "a mix names values of one condition"),
        ({"where": {"outcome": "done"}, "mix": {"failed": 0.5}}, "no case that this generator was fitted to"),
        ({"n": -1}, "from 0 on"),
    ],
)
def test_what_can_not_be_made_is_told(fitted: Generator, asked: dict[str, Any], why: str) -> None:
    with pytest.raises(BadInput, match=why):
        fitted.generate(**{"n": 5, **asked})


def test_too_little_to_learn_from_is_told() -> None:
    with pytest.raises(BadInput, match="at least 10 cases"):
        fit(cases(9))
    with pytest.raises(BadInput, match="no case has the attribute 'colour'; they have outcome, size"):
        fit(cases(20), ["colour"])
    with pytest.raises(BadInput, match="hidden is at least 1"):
        Settings(hidden=0)


# --- validity ---


def test_rules_that_all_real_cases_keep_are_found() -> None:
    calls = [Case(str(n), [Event(name) for name in ["call", "wait", "result"] * (1 + n % 2)]) for n in range(40)]
    found = {str(rule) for rule in rules_of(calls)}
    assert {"call precedes result", "result responds to call", "result answers call"} <= found
    valid = Validity.of(calls)
    assert valid.passes(calls[0])
    assert not valid.passes(Case("", [Event("call"), Event("wait")]))
    assert not valid.passes(Case("", [Event(name) for name in ("call", "wait", "result", "result")]))


class Never:
    """Nothing that has `write` in it can be."""

    def surprise(self, run: Any) -> list[float]:
        return [math.inf if "write" in [*run] else 1.0]


def test_what_an_automaton_excludes_is_not_made(fitted: Generator) -> None:
    made = fitted.generate(40, where={"outcome": "done"}, valid=Validity(likelihood=Never()))
    assert fitted.rejected > 0
    assert all("write" not in case.activities for case in made)


def test_what_can_not_be_valid_ends_with_a_sentence(fitted: Generator) -> None:
    class Nothing:
        def surprise(self, run: Any) -> list[float]:
            return [math.inf]

    with pytest.raises(BadInput, match="of 3 cases only 0 were valid"):
        fitted.generate(3, valid=Validity(likelihood=Nothing()))


# --- codes ---


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=60), st.integers(2, 24))
@settings(deadline=None, max_examples=60)
def test_a_number_drawn_from_its_band_lies_in_it(values: list[float], bands: int) -> None:
    channel = Bands.of(values, bands)
    for code in channel.coded(values):
        drawn = [channel.drawn(int(code), at) for at in (0.0, 0.5, 1.0)]
        assert channel.coded(drawn).tolist() == [code] * 3
        assert min(values) <= drawn[0] <= drawn[1] <= drawn[2] <= max(values)  # type: ignore[operator]
    assert channel.coded([None]).tolist() == [0]
    assert channel.drawn(0, 0.5) is None


def test_a_word_that_was_never_seen_is_none() -> None:
    channel = Words.of(["a", "b", "a"])
    assert [channel.drawn(int(code), 0) for code in channel.coded(["a", "c", "b"])] == ["a", "", "b"]


# --- files ---


def test_cases_are_written_and_read(tmp_path: Path) -> None:
    out = io.BytesIO()
    assert write_cases(cases(12), out) == 12
    (tmp_path / "log.jsonl").write_bytes(out.getvalue())
    assert read_cases(tmp_path / "log.jsonl") == cases(12)


XES = """<log xmlns="http://www.xes-standard.org/">
<trace><string key="concept:name" value="one"/><string key="label" value="good"/>
<event><string key="concept:name" value="a"/><date key="time:timestamp" value="2026-01-01T00:00:10+00:00"/></event>
<event><string key="concept:name" value="b"/><date key="time:timestamp" value="2026-01-01T00:00:30+00:00"/>
<date key="start_timestamp" value="2026-01-01T00:00:25+00:00"/><string key="org:resource" value="ann"/>
<float key="cost:total" value="2.5"/></event></trace>
<trace><event><string key="concept:name" value="a"/>
<date key="time:timestamp" value="2026-01-01T00:01:00"/></event></trace>
</log>"""


@pytest.mark.parametrize("packed", [False, True])
def test_xes_is_read(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("log.xes.gz" if packed else "log.xes")
    path.write_bytes(gzip.compress(XES.encode()) if packed else XES.encode())
    one, two = read_cases(path)
    assert (one.id, one.attributes, one.start, two.start) == ("one", {"label": "good"}, 0.0, 50.0)
    assert one.events == [Event("a"), Event("b", 15.0, "ann", {"total": 2.5, "seconds": 5.0})]
    assert one.seconds == 20.0


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("a.jsonl", '{"id": "x"}', "a.jsonl:1 is no case"),
        ("b.jsonl", '\n{"id": "x", "events": [{"activity": "a", "after": -1}]}', "b.jsonl:2: times and amounts"),
        ("c.xes", "<log><trace>", "is no XES"),
        ("d.xes", "<log><trace><event/></trace></log>", "trace 1: an event without concept:name"),
        ("e.xes", '<log><trace><date key="x" value="noon"/></trace></log>', "x is no date"),
        ("f.xes.gz", "not packed", "is no XES"),
    ],
)
def test_a_bad_file_is_told_with_its_place(tmp_path: Path, name: str, text: str, why: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(BadInput, match=why):
        read_cases(tmp_path / name)
    with pytest.raises(BadInput, match="there is no file"):
        read_cases(tmp_path / "nothing.xes")
