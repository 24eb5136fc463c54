"""What every store keeps of checkpoints, and the look at one moment that they are made from."""

from __future__ import annotations

import asyncio

import pytest

from tests.stores import KINDS, Place, commit, ids, row, rows
from weft.core.record import Patch, encode_records, length_of
from weft.store import Account, Batch, Checkpoint, Message, Question, Segment
from weft.store.copy import copy


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


@pytest.mark.parametrize("count", [0, 1, 15, 16, 300, 65_535, 65_536])
def test_the_length_of_a_segment_stands_in_its_first_bytes(count: int) -> None:
    assert length_of(encode_records([Patch(0.0, "")] * count)[:5]) == count


def test_checkpoints_are_kept_with_their_process(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        first = Checkpoint("c1", "p", "one", "why", 1.0, 3, body=b"\x00body")
        second, third = Checkpoint("c2", "q", at=2.0, body=b"2"), Checkpoint("c3", "p", at=3.0, body=b"3")
        await commit(
            store, rows=rows(row("p", state="done"), row("q", state="done")), checkpoints={"c1": first, "c2": second}
        )
        await commit(store, checkpoints={"c3": third})
        assert await store.checkpoint("c1") == first
        assert await store.checkpoint("none") is None
        assert [one.id for one in await store.checkpoints()] == ["c3", "c2", "c1"]
        assert [one.id for one in await store.checkpoints("p")] == ["c3", "c1"]
        assert [one.id for one in await store.checkpoints(limit=1)] == ["c3"]
        assert {one.body for one in await store.checkpoints()} == {b""}
        # Restoring changes its heirs and nothing else.
        done: list[BaseException | None] = []
        store.commit(Batch(checkpoints={"c1": Checkpoint("c1", "p", "other", heir="a", heirs=b"a")}), done.append)
        await commit(store, checkpoints={"c1": Checkpoint("c1", "p", "other", heir="b", heirs=b"b")})
        assert done == [None]
        assert await store.checkpoint("c1") == Checkpoint("c1", "p", "one", "why", 1.0, 3, "b", b"b", b"\x00body")
        assert (await store.about(["q"])).checkpoints == {"c2": second}
        assert await store.delete(["p"]) == 1
        assert [one.id for one in await store.checkpoints()] == ["c2"]

    place.run(main)


def test_a_subtree_is_all_that_descends_from_a_process(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            rows=rows(
                row("top"), row("p", parent="top", state="waiting", length=99), row("other", parent="top"),
                row("kid", parent="p", state="done"), row("grandkid", parent="kid", state="paused"),
            ),
            segments=[
                Segment("p", 0, encode_records([Patch(0.0, "")] * 20)),
                Segment("p", 20, encode_records([Patch(0.0, "")])),
                Segment("kid", 0, encode_records([Patch(0.0, "")] * 3)), Segment("other", 0, encode_records([])),
            ],
            messages=[Message(0, "kid", "b", b"1"), Message(0, "other", "b", b"2"), Message(0, "p", "b", b"3")],
            events=[("k", b"v", "kid"), ("o", b"v", "other")],
            waits={"p": ["k", "l"], "other": ["k"]},
            questions={"p:1": Question("p:1", "p"), "other:1": Question("other:1", "other")},
            accounts={
                "top": Account("top", None, {"money": 9.0}), "p": Account("p", "top", {"money": 1.0}),
                "other": Account("other", "top", {"money": 2.0}), "kid": Account("kid", "p", {"turns": 3.0}),
            },
        )  # fmt: skip
        found = await store.subtree("p")
        assert ids(list(found.rows.values())) == ["p", "kid", "grandkid"]
        assert [one.length for one in found.rows.values()] == [21, 3, 0]
        assert [(one.process, one.payload) for one in found.messages] == [("kid", b"1"), ("p", b"3")]
        assert [tuple(event) for event in found.events] == [("k", b"v", "kid")]
        assert {id: sorted(keys) for id, keys in found.waits.items()} == {"p": ["k", "l"]}
        assert list(found.questions) == ["p:1"]
        assert sorted(found.accounts) == ["kid", "p", "top"]
        assert sorted((await store.subtree("grandkid")).accounts) == ["kid", "p", "top"]
        assert await store.subtree("nobody") == Batch()

    place.run(main)


def test_a_subtree_is_seen_at_one_moment(place: Place) -> None:
    async def main() -> None:
        writer, reader = await place.owner("writer"), await place.owner("reader")
        await commit(writer, rows=rows(row("p"), row("q", parent="p"), row("r", parent="q")))
        busy = True

        async def write() -> None:
            for number in range(150):
                segments = [Segment(id, number, encode_records([Patch(0.0, "")])) for id in ("p", "q", "r")]
                letters = [Message(0, id, "b", b"") for id in ("p", "r")]
                await commit(writer, segments=segments, messages=letters)
                await asyncio.sleep(0)

        writing = asyncio.create_task(write())
        seen = set()
        while busy:
            busy = not writing.done()
            found = await reader.subtree("p")
            lengths = {one.length for one in found.rows.values()}
            assert len(lengths) == 1 and len(found.messages) == 2 * max(lengths)
            seen |= lengths
            await asyncio.sleep(0)
        await writing
        assert 150 in seen

    place.run(main)


def test_an_account_stays_while_a_forks_account_hangs_below_it(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(
            store,
            rows=rows(row("top", state="done"), row("fork", state="done"), row("second", state="done")),
            accounts={
                "top": Account("top", None, {"money": 9.0}), "fork": Account("fork", "top", {"money": 5.0}),
                "second": Account("second", "fork", {"money": 1.0}),
            },
        )  # fmt: skip
        await store.delete(["top"])
        await store.delete(["fork"])
        assert [one.process for one in await store.accounts("second")] == ["second", "fork", "top"]
        # Accounts of which no process is left go along with the one that they bound.
        assert sorted((await store.about(["second"])).accounts) == ["fork", "second", "top"]
        await store.delete(["second"])
        assert await store.accounts("second") == []
        assert await store.accounts("top") == []

    place.run(main)


def test_checkpoints_and_all_revocations_go_with_a_copy(place: Place, tmp_path: object) -> None:
    async def main() -> None:
        store = await place.owner("me")
        made = Checkpoint("c1", "p", "one", heir="q", heirs=b"h", body=b"b")
        await commit(store, rows=rows(row("p", state="done")), checkpoints={"c1": made}, revoked=[("gone", 3, "ann")])
        await store.close()
        source, target = place.open(), place.beside("sqlite-full", f"sqlite:///{tmp_path}/other.db").open()
        for copied in (1, 0):
            report = await copy(source, target)
            assert (report.copied, report.left, report.here == report.beyond) == (copied, [], True)
            source, target = place.open(), place.beside("sqlite-full", f"sqlite:///{tmp_path}/other.db").open()
        assert await target.checkpoint("c1") == made
        assert [(one.process, one.number, one.by) for one in await target.revocations()] == [("gone", 3, "ann")]

    place.run(main)
