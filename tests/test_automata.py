"""Automata from streams: known sources found, mistakes undone, bounds kept, workers merged, other tools served."""

from __future__ import annotations

import math
import random
import re
from collections.abc import Iterable
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.core.errors import BadInput
from weft.trace.automata import Automaton, ChiSquare, Hoeffding, Learner, merged, to_dot, to_pnml
from weft.trace.automata.contexts import Contexts
from weft.trace.automata.evidence import Evidence, columns_of, hash_of, nothing

SYMBOLS = ["a", "b", "c"]
RUNS = st.lists(st.lists(st.sampled_from(SYMBOLS), max_size=6), max_size=40)


def cycle(rng: random.Random) -> list[str]:
    """Reads and edits in turn, however often, then a test: what comes next depends on the parity of what was."""
    found = []
    while rng.random() < 0.8:
        found += ["read", "edit"]
    return [*found, "test"]


def many(count: int, seed: int = 0) -> list[list[str]]:
    rng = random.Random(seed)
    return [cycle(rng) for _ in range(count)]


def cycle_bits(run: list[str]) -> float:
    """-log2 of the true probability of a `cycle`."""
    return -(len(run) // 2) * math.log2(0.8) - math.log2(0.2)


# --- what is learnt ---------------------------------------------------------------------------------------------------


def test_a_small_source_is_found_as_it_is() -> None:
    model = Learner().feed_all(many(2000)).model()
    assert len(model.vertices) == 3  # before a read, before an edit, after the test
    for run in (["test"], ["read", "edit", "test"], ["read", "edit"] * 5 + ["test"]):
        assert math.fsum(model.surprise(run)) == pytest.approx(cycle_bits(run), abs=0.15 * len(run))


def test_what_lies_far_back_is_remembered_where_a_few_symbols_are_not_enough() -> None:
    """What comes last is what came first, and between them are more symbols than a context looks back."""
    rng = random.Random(1)
    runs = [[kind, *["wait"] * 6, kind] for kind in rng.choices("xy", k=3000)]
    model = Learner(least=20, futures=8).feed_all(runs).model()
    assert model.surprise(["x", *["wait"] * 6, "x"])[7] < 0.2
    assert model.surprise(["x", *["wait"] * 6, "y"])[7] > 4
    [left] = model.departures(["x", *["wait"] * 6, "y"])[:1]
    assert left.at == 7 and left.symbol == "y" and left.expected[0][0] == "x" and left.expected[0][1] > 0.9


@given(RUNS, st.lists(st.sampled_from([*SYMBOLS, "never"]), max_size=4))
@settings(max_examples=60, deadline=None)
def test_the_probabilities_of_what_may_come_next_add_up_to_one(runs: list[list[str]], before: list[str]) -> None:
    model = Learner(least=3, batch=5, grow=2).feed_all(runs).model()
    unseen = "unseen"  # all symbols that are not in the alphabet together
    each = [2 ** -model.surprise([*before, symbol])[len(before)] for symbol in [*model.alphabet, unseen]]
    end = 2 ** -model.surprise(before)[-1]
    assert math.fsum([*each, end]) == pytest.approx(1)
    assert all(0 < share < 1 for share in each)


def test_what_was_never_seen_surprises_most() -> None:
    model = Learner().feed_all(many(500)).model()
    bits = model.surprise(["read", "teleport", "test"])
    assert max(bits) == bits[1] > 8
    assert [one.at for one in model.departures(["read", "teleport"]) if one.symbol == "teleport"] == [1]
    assert model.departures(["read", "edit", "test"]) == []
    assert model.score(["read", "teleport"]) > model.score(["read", "edit", "test"])
    assert model.rarity_of_run(model.score(["read", "teleport"])) < 0.01


def test_the_early_surprises_of_a_young_learner_count_less_and_less() -> None:
    runs = [["start", f"only-{number}"] for number in range(64)] + [["start", "stop"]] * 3000
    model = Learner().feed_all(runs).model()
    assert model.rarity(model.surprise(["start", "only-7"])[1]) < 0.01


def test_asking_changes_nothing() -> None:
    model = Learner().feed_all(many(300)).model()
    kept = model.dump()
    model.surprise(["read", "x", "y"])
    model.departures(["read", "x", "y"])
    assert model.dump() == kept


def test_one_batch_of_all_is_about_as_good_as_the_stream() -> None:
    runs, held_out = many(1500), many(300, seed=9)
    true = sum(cycle_bits(run) for run in held_out)
    stream, batch = (
        sum(math.fsum(model.surprise(run)) for run in held_out)
        for model in (Learner().feed_all(runs).model(), Learner().feed_at_once(runs).model())
    )
    assert true * 0.98 < batch < true * 1.02 and stream < batch * 1.02


def test_few_runs_at_once_tell_more_than_few_one_by_one() -> None:
    """In one pass an edge is followed only once it leads somewhere; at once every run goes as far as states lead."""
    rng = random.Random(4)
    runs = [[kind, *["wait"] * 6, kind] for kind in rng.choices("xy", k=120)]
    bits = [
        model.surprise(["x", *["wait"] * 6, "y"])[7]
        for model in (
            Learner(least=20, futures=8).feed_at_once(runs).model(),
            Learner(least=20, futures=8).feed_all(runs).model(),
        )
    ]
    assert bits[0] > bits[1] + 1


# --- early mistakes ---------------------------------------------------------------------------------------------------


def test_an_early_wrong_merge_is_undone() -> None:
    """At first the futures of x and of y look alike; later they don't."""
    rng = random.Random(2)
    alike = [[kind, rng.choice("pq")] for kind in rng.choices("xy", k=200)]
    apart = [[kind, "p" if kind == "x" else "q"] for kind in rng.choices("xy", k=4000)]
    learner = Learner().feed_all(alike)
    learner.revise()
    x, y = learner.alphabet["x"], learner.alphabet["y"]
    assert learner.states[0].edges[x].target == learner.states[0].edges[y].target is not None
    learner.feed_all(apart)
    learner.revise()
    assert learner.undone >= 1
    assert learner.states[0].edges[x].target != learner.states[0].edges[y].target
    model = learner.model()
    assert model.surprise(["x", "q"])[1] > model.surprise(["x", "p"])[1] + 2


@given(RUNS)
@settings(max_examples=60, deadline=None)
def test_a_state_knows_what_its_edges_know(runs: list[list[str]]) -> None:
    """Whatever was led, doubted and led again: evidence is neither lost nor counted twice."""
    learner = Learner(least=3, batch=4, futures=3, width=5, test=ChiSquare(1.0)).feed_all(runs)
    learner.revise()
    _adds_up(learner, len(runs))


def _adds_up(learner: Learner, runs: int) -> None:
    for number, state in enumerate(learner.states):
        total = nothing(learner.futures, learner.width)
        for each in learner.states:
            for edge in each.edges.values():
                if edge.target == number:
                    total.add(edge.evidence)
        if number == 0:
            assert state.evidence.passed - total.passed == runs
        else:
            assert (total.passed, total.next, total.futures) == (
                state.evidence.passed, state.evidence.next, state.evidence.futures,
            )  # fmt: skip
        assert sum(state.evidence.next.values()) == state.evidence.passed
        assert all(sum(row) == state.evidence.passed for row in state.evidence.futures)


# --- several workers --------------------------------------------------------------------------------------------------


def test_workers_that_learn_apart_know_together_what_one_would() -> None:
    runs = many(1500)
    one = Learner().feed_all(runs).model()
    several = merged(
        merged(Learner().feed_all(runs[0::3]), Learner().feed_all(runs[1::3])), Learner().feed_all(runs[2::3])
    )
    assert several.seen == 1500
    for run in many(50, seed=7):
        whole, parts = math.fsum(one.surprise(run)), math.fsum(several.model().surprise(run))
        assert parts == pytest.approx(whole, rel=0.05, abs=0.3)
    several.feed(["read", "edit", "test"])  # and it goes on


def test_workers_with_other_tools_are_merged_by_name() -> None:
    first, second = Learner().feed_all([["a", "b"]] * 200), Learner().feed_all([["b", "c"]] * 200)
    model = merged(first, second).model()
    assert {*model.alphabet} == {"a", "b", "c"}
    shares = dict(model.expected([]))
    assert shares["a"] == pytest.approx(0.5, abs=0.02) and shares["b"] == pytest.approx(0.5, abs=0.02)
    assert model.expected(["b"])[0][0] == "c" and model.expected(["a"])[0][0] == "b"


@given(RUNS, RUNS)
@settings(max_examples=40, deadline=None)
def test_a_merge_loses_no_evidence_and_counts_none_twice(first: list[list[str]], second: list[list[str]]) -> None:
    workers = [Learner(least=3, batch=4, futures=3, width=5).feed_all(runs) for runs in (first, second)]
    before = [worker.dump() for worker in workers]
    whole = merged(*workers)
    _adds_up(whole, len(first) + len(second))
    assert [worker.dump() for worker in workers] == before
    assert whole.contexts.root.visits == sum(len(run) + 1 for run in [*first, *second])


def test_workers_whose_alphabets_are_full_stay_in_bounds() -> None:
    workers = [Learner(symbols=5).feed_all([[f"{name}{n}"] for n in range(9)] * 20) for name in "ab"]
    whole = merged(*workers)
    assert len(whole.alphabet) <= 6
    _adds_up(whole, 360)


def test_evidence_of_other_shape_is_refused() -> None:
    with pytest.raises(BadInput, match="same futures and width"):
        merged(Learner(width=10), Learner(width=20))


# --- bounds -----------------------------------------------------------------------------------------------------------


def test_noise_without_end_stays_in_bounds() -> None:
    rng = random.Random(3)
    learner = Learner(states=20, symbols=8, grow=50)
    sizes = []
    for _ in range(4):
        learner.feed_all([[str(rng.randrange(30)) for _ in range(6)] for _ in range(700)])
        sizes.append(len(learner.dump()))
    assert len(learner.states) <= 20 and len(learner.alphabet) <= 9
    assert learner.peak <= 20 + 20 * 9
    assert sizes[3] < 1.5 * sizes[1]


def test_edges_that_are_hardly_ever_taken_are_forgotten() -> None:
    runs = [["start", f"only-{number}"] for number in range(1500)]
    learner = Learner(edges=30, batch=100).feed_all(runs)
    learner.revise()
    assert sum(len(state.edges) for state in learner.states) <= 31
    assert learner.peak <= 31 + 100 + len(learner.states)


def test_contexts_are_no_more_than_the_most() -> None:
    rng = random.Random(5)
    few, many_more = Contexts(grow=1, most=40), Contexts(grow=1, most=40)
    for tree in (few, many_more):
        for _ in range(200):
            tree.note([*(rng.randrange(9) for _ in range(6)), -1])
    few.add(many_more, {code: code for code in range(-1, 9)})
    assert few.size == 40


def test_symbols_beyond_the_most_are_known_as_another() -> None:
    model = Learner(symbols=2).feed_all([["a", "b", f"rare-{number}"] for number in range(300)]).model()
    assert model.alphabet == ["a", "b", "(another)"]
    assert model.surprise(["a", "b", "never seen"])[2] < 0.5


# --- kept, and for other tools ----------------------------------------------------------------------------------------


def test_a_learner_that_was_kept_goes_on_as_if_nothing_had_happened() -> None:
    runs = many(1000)
    whole = Learner(batch=100).feed_all(runs[:500])
    whole.revise()
    again = Learner.load(whole.dump())
    whole.feed_all(runs[500:])
    again.feed_all(runs[500:])
    assert again.dump() == whole.dump()
    model = whole.model()
    assert Automaton.load(model.dump()).surprise(runs[3]) == model.surprise(runs[3])


@pytest.mark.parametrize(
    "data", [b"", b"nonsense", b"\x80", b"\x81\xa1a\x01"], ids=["empty", "text", "nothing", "else"]
)
def test_what_is_no_automaton_is_refused(data: bytes) -> None:
    with pytest.raises(BadInput, match="this is no learner"):
        Learner.load(data)
    with pytest.raises(BadInput, match="this is no automaton"):
        Automaton.load(data)
    with pytest.raises(BadInput, match="this is no automaton"):
        Automaton.load(Learner().dump())


def test_graphviz_gets_every_state_and_edge() -> None:
    model = Learner().feed_all([['say "hi"\\', "b"], ["b"]] * 100).model()
    text = to_dot(model)
    edges = sum(len(vertex.edges) for vertex in model.vertices)
    assert len(re.findall(r"^  s\d+ \[", text, re.M)) == len(model.vertices)
    assert len(re.findall(r"^  s\d+ -> ", text, re.M)) == edges
    assert r'label="say \"hi\"\\ 0.50"' in text
    assert len(re.findall(r"^  s\d+ -> ", to_dot(model, least=0.9), re.M)) < edges


def test_the_petri_net_accepts_what_the_automaton_knows() -> None:
    net = ElementTree.fromstring(to_pnml(Learner().feed_all(many(500)).model()))
    assert _plays(net, ["read", "edit", "read", "edit", "test"])
    assert not _plays(net, ["read", "read"]) and not _plays(net, ["read", "edit"])


def test_a_petri_net_with_odd_symbols_is_sound_xml() -> None:
    net = ElementTree.fromstring(to_pnml(Learner().feed_all([["<&>\x00", ""]] * 100).model()))
    spaced = net.tag.partition("}")[0] + "}"
    names = [one.findtext(f"{spaced}name/{spaced}text") for one in net.iter(f"{spaced}transition")]
    assert "<&>\N{REPLACEMENT CHARACTER}" in names and len(list(net.iter(f"{spaced}toolspecific"))) == 1


def _plays(net: ElementTree.Element, run: Iterable[str]) -> bool:
    """Whether firing these transitions, and then a silent one, brings the token to the end."""
    s = net.tag.partition("}")[0] + "}"
    inputs = {arc.get("target"): arc.get("source") for arc in net.iter(f"{s}arc")}
    outputs = {arc.get("source"): arc.get("target") for arc in net.iter(f"{s}arc")}
    place: str | None = "s0"
    assert [one.get("id") for one in net.iter(f"{s}place") if one.find(f"{s}initialMarking") is not None] == ["s0"]
    for symbol in (*run, None):
        fitting = [
            one.get("id")
            for one in net.iter(f"{s}transition")
            if inputs[one.get("id")] == place
            and (one.find(f"{s}toolspecific") is not None if symbol is None else
                 one.find(f"{s}toolspecific") is None and one.findtext(f"{s}name/{s}text") == symbol)
        ]  # fmt: skip
        if not fitting:
            return False
        [fires] = fitting
        place = outputs[fires]
    return place == "end"


# --- evidence ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from(SYMBOLS), max_size=5), st.lists(st.sampled_from(SYMBOLS), max_size=5))
def test_the_same_futures_fall_into_the_same_columns(first: list[str], second: list[str]) -> None:
    end = ["c", "c", "c", "c"]
    one, other = ([*map(hash_of, [*run, *end]), 1] for run in (first, second))
    assert columns_of(one, 4, 20)[len(first) :] == columns_of(other, 4, 20)[len(second) :]


@pytest.mark.parametrize("test", [Hoeffding(), ChiSquare()], ids=["hoeffding", "chi-square"])
def test_places_differ_when_their_futures_do(test: Hoeffding | ChiSquare) -> None:
    def seen(counts: dict[int, int]) -> Evidence:
        found = nothing(1, 20)
        for symbol, count in counts.items():
            for _ in range(count):
                found.note(symbol, ())
        return found

    assert test.differ(seen({0: 500, 1: 500}), seen({0: 900, 1: 100}))
    assert not test.differ(seen({0: 500, 1: 500}), seen({0: 480, 1: 520}))
    assert not test.differ(seen({0: 1}), seen({1: 1})) and not test.differ(seen({}), seen({0: 9}))


# --- bad input --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [{"batch": 0}, {"width": 2.5}, {"futures": True}, {"least": "3"}, {"states": -1}, {"depth": 100}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_bad_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(BadInput, match=f"{next(iter(wrong))} of a learner"):
        Learner(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("run", "says"), [("abc", "put it into a list"), (["a", 3], "a symbol is a text, not 3"), ([None], "not None")],
    ids=["one text", "a number", "none"],
)  # fmt: skip
def test_what_is_no_run_is_refused(run: list[str], says: str) -> None:
    learner = Learner()
    model = learner.feed_all([["a"]] * 50).model()
    for ask in (learner.feed, model.surprise, model.score, model.departures, model.expected, model.probability):
        with pytest.raises(BadInput, match=says):
            ask(run)  # type: ignore[operator]
    assert learner.seen == 50


def test_half_a_character_is_refused() -> None:
    with pytest.raises(BadInput, match="UTF-8"):
        Learner().feed(["\ud800"])


def test_nothing_learnt_is_told_apart_by_nobody() -> None:
    model = Learner().model()
    assert model.surprise([]) == [1.0] and model.expected([]) == [] and model.departures(["a"]) == []
    assert to_dot(model) and to_pnml(model)
