"""Budgets in the store: what is reserved and spent under limits, by any number of runtimes, through crashes."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tests.stores import KINDS, SQLITE, Place, begin, commit, elsewhere, row, rows
from weft.core.errors import LeaseLost, StoreError
from weft.store import Account, Charge, Refusal, Store


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest) -> Place:
    return Place.of(request)


async def books(store: Store, process: str) -> list[tuple[str, dict[str, float], dict[str, float]]]:
    return [(one.process, one.spent, one.reserved) for one in await store.accounts(process)]


TREE = {
    "top": Account("top", None, {"money": 10.0, "turns": 5}),
    "mid": Account("mid", "top", {"money": 6.0}),
    "side": Account("side", "top", {"tokens": 1000}),
}


async def plant(store: Store) -> None:
    await commit(
        store,
        rows=rows(
            row("top"), row("mid", parent="top"), row("side", parent="top"), row("low", parent="mid"), row("lost")
        ),
        accounts=TREE,
    )


def test_a_charge_is_reserved_all_the_way_up_or_not_at_all(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await plant(store)
        answers = await store.reserve(
            [
                Charge("low:1:1", "mid", {"money": 5.0, "turns": 1}),
                Charge("low:2:1", "mid", {"turns": 1, "money": 1.5}),  # more than mid has left
                Charge("side:1:1", "side", {"tokens": 900, "money": 4.0}),
                Charge("side:2:1", "side", {"money": 1.5, "tokens": 50}),  # more than top has left
                Charge("low:3:1", "mid", {"money": 1.0, "unlimited": 7.0}),  # to the last
            ]
        )
        assert answers == [
            None,
            Refusal("mid", "money", 6.0, 0.0, 5.0, 1.5),
            None,
            Refusal("top", "money", 10.0, 0.0, 9.0, 1.5),
            None,
        ]
        mid, top = await store.accounts("low")
        assert (mid.process, mid.parent, mid.limits) == ("mid", "top", {"money": 6.0})
        assert mid.reserved == {"money": 6.0, "turns": 1.0, "unlimited": 7.0}
        assert top.reserved == {"money": 10.0, "turns": 1.0, "tokens": 900.0, "unlimited": 7.0}
        assert set(mid.spent.values()) == {0.0}
        assert [one.process for one in await store.accounts("side")] == ["side", "top"]
        assert await store.accounts("lost") == await store.accounts("never heard of") == []
        assert await store.reserve([]) == []

    place.run(main)


def test_keys_count_once(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await plant(store)
        charge = Charge("mid:1:1", "mid", {"money": 4.0})
        assert await store.reserve([charge, charge]) == [None, None]
        assert await store.reserve([charge]) == [None]
        assert (await store.accounts("mid"))[0].reserved == {"money": 4.0}
        await commit(store, settled={"mid:1:1": {"money": 2.5, "tokens": 40}, "mid:9:1": {"money": 99.0}})
        after = [("mid", {"money": 2.5, "tokens": 40.0}, {"money": 0.0, "tokens": 0.0})]
        assert (await books(store, "mid"))[:1] == after
        await commit(store, settled={"mid:1:1": {"money": 2.5}})
        assert await store.reserve([charge]) == [None]
        assert (await books(store, "mid"))[:1] == after
        assert (await store.accounts("side"))[-1].spent == {"money": 2.5, "turns": 0.0, "tokens": 40.0}
        # What was refused can be asked for again, and an account that is there is not opened again.
        (refusal,) = await store.reserve([Charge("mid:2:1", "mid", {"money": 4.0})])
        assert refusal == Refusal("mid", "money", 6.0, 2.5, 0.0, 4.0)
        await commit(store, accounts={"mid": Account("mid", None, {"money": 99.0, "turns": 1}, {"money": 0.0})})
        # An attempt that never began gives back all; one may cost more than it had reserved.
        assert await store.reserve([Charge("mid:2:1", "mid", {"money": 3.5})]) == [None]
        await commit(store, settled={"mid:2:1": {}})
        assert await store.reserve([Charge("mid:3:1", "mid", {"money": 3.5})]) == [None]
        await commit(store, settled={"mid:3:1": {"money": 20.0}})
        assert [one.spent["money"] for one in await store.accounts("mid")] == [22.5, 22.5]
        assert await store.reserve([Charge("side:1:1", "side", {"money": 0.25})]) == [
            Refusal("top", "money", 10.0, 22.5, 0.0, 0.25)
        ]
        assert await store.reserve([Charge("side:1:1", "side", {"tokens": 1})]) == [None]

    place.run(main)


def test_floats_that_sum_up_to_the_limit_are_within_it(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await commit(store, rows=rows(row("p")), accounts={"p": Account("p", None, {"money": 0.3})})
        assert 0.1 + 0.2 > 0.3
        charges = [Charge("p:1:1", "p", {"money": 0.1}), Charge("p:2:1", "p", {"money": 0.2})]
        assert await store.reserve(charges) == [None, None]
        assert await store.reserve([Charge("p:3:1", "p", {"money": 1e-6})]) != [None]
        await commit(store, settled={"p:1:1": {}, "p:2:1": {}})
        assert await books(store, "p") == [("p", {"money": 0.0}, {"money": 0.0})]

    place.run(main)


def test_an_account_that_is_not_there_is_an_error_and_nothing_is_reserved(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await plant(store)
        with pytest.raises(StoreError, match="no account is kept for process low"):
            await store.reserve([Charge("mid:1:1", "mid", {"money": 1.0}), Charge("low:1:1", "low", {"money": 1.0})])
        assert (await store.accounts("mid"))[0].reserved == {"money": 0.0}

    place.run(main)


def test_what_is_reserved_goes_with_its_process(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        await plant(store)
        charges = [Charge("low:1:1", "mid", {"money": 2.0}), Charge("low:2:1", "mid", {"money": 1.0})]
        assert await store.reserve(charges) == [None, None]
        await commit(store, settled={"low:1:1": {"money": 1.0}}, rows=rows(row("low", parent="mid", state="killed")))
        assert await store.delete(["low"]) == 1
        assert [(s["money"], r["money"]) for _, s, r in await books(store, "mid")] == [(1.0, 0.0), (1.0, 0.0)]
        assert await store.reserve(charges) == [None, None]  # nobody remembers its keys
        assert [r["money"] for _, _, r in await books(store, "mid")] == [3.0, 3.0]

    place.run(main)


# --- crashes ----------------------------------------------------------------------------------------------------


def test_a_reservation_outlives_the_death_of_its_runtime(place: Place) -> None:
    crash = """
async def main():
    store = opened(heartbeat=0.2)
    await store.register("dead", {})
    from weft.store import Charge
    print(await store.reserve([Charge("mid:1:1", "mid", {"money": 5.0})]), flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""

    async def main() -> None:
        store = await place.owner("me", heartbeat=0.2)
        await plant(store)
        assert await elsewhere(place, crash, status=-9) == "[None]"
        assert [r["money"] for _, _, r in await books(store, "mid")] == [5.0, 5.0]
        assert await store.reserve([Charge("mid:2:1", "mid", {"money": 2.0})]) != [None]
        assert await store.reserve([Charge("mid:1:1", "mid", {"money": 5.0})]) == [None]
        assert [r["money"] for _, _, r in await books(store, "mid")] == [5.0, 5.0]
        await commit(store, settled={"mid:1:1": {"money": 3.0}})
        assert [(s["money"], r["money"]) for _, s, r in await books(store, "mid")] == [(3.0, 0.0), (3.0, 0.0)]

    place.run(main)


def test_a_dead_owner_reserves_nothing(postgres_url: str) -> None:
    place = Place("postgres", postgres_url)

    async def main() -> None:
        import asyncpg

        store, other = await place.owner("me"), await place.owner("other")
        await plant(store)
        connection = await asyncpg.connect(postgres_url)
        await connection.execute("DELETE FROM weft.owners WHERE owner = 'me'")
        with pytest.raises(LeaseLost):
            await store.reserve([Charge("mid:1:1", "mid", {"money": 5.0})])
        with pytest.raises(LeaseLost):
            await commit(store, rows=rows(row("p")))
        assert (await other.accounts("mid"))[0].reserved == {"money": 0.0}
        with pytest.raises(StoreError, match="nobody is registered"):
            await place.open().reserve([])
        await connection.close()

    place.run(main)


# --- many at once -----------------------------------------------------------------------------------------------

SPENDER = """
from weft.store import Charge
name, root, count = arguments[0], arguments[1], int(arguments[2])
async def main():
    store = opened()
    await store.register(name, {})
    account, taken = f"{root}-{name}", 0
    print("ready", flush=True)
    sys.stdin.readline()
    for n in range(count):
        keys = [f"{account}:{n}:{m}" for m in range(3)]
        answers = await store.reserve([Charge(key, account, {"money": 1.0}) for key in keys])
        let = [key for key, answer in zip(keys, answers) if answer is None]
        taken += len(let)
        if n % 2:  # half of them are settled, at half the price
            await commit(store, settled={key: {"money": 0.5} for key in let})
            taken -= len(let) / 2
    print(taken)
    await store.close()
asyncio.run(main())
"""


def test_processes_never_exceed_a_limit_together(place: Place) -> None:
    async def main() -> None:
        store = await place.owner("me")
        names = [f"r{n}" for n in range(4)]
        await commit(
            store,
            rows=rows(row("p"), *(row(f"p-{name}", parent="p") for name in names)),
            accounts={"p": Account("p", None, {"money": 50.0})}
            | {f"p-{name}": Account(f"p-{name}", "p", {"money": 14.5}) for name in names},
        )
        others = [await begin(place, SPENDER, name, "p", 30) for name in names]
        for other in others:
            assert other.stdout and other.stdin
            assert await other.stdout.readline() == b"ready\n"
        for other in others:
            assert other.stdin
            other.stdin.write(b"go\n")
        outputs = [await other.communicate() for other in others]
        assert [other.returncode for other in others] == [0] * 4
        taken = [float(output) for output, _ in outputs]
        (top,) = await store.accounts("p")
        assert top.spent["money"] + top.reserved["money"] == sum(taken)
        assert 49.0 < sum(taken) <= 50.0
        for name, each in zip(names, taken, strict=True):
            mine = (await store.accounts(f"p-{name}"))[0]
            assert mine.spent["money"] + mine.reserved["money"] == each <= 14.5

    place.run(main)


@pytest.mark.parametrize("kind", SQLITE)
def test_threads_never_exceed_a_limit_together(kind: Any, tmp_path: Any) -> None:
    place = Place(kind, f"sqlite:///{tmp_path}/j.db")
    taken: list[int] = []

    def spend(name: str) -> None:
        here = Place(kind, place.url)

        async def main() -> None:
            store = await here.owner(name)
            answers = [(await store.reserve([Charge(f"{name}:{n}:1", "p", {"turns": 1})]))[0] for n in range(20)]
            taken.append(answers.count(None))

        here.run(main)

    async def main() -> None:
        store = await place.owner("me")
        await commit(store, rows=rows(row("p")), accounts={"p": Account("p", None, {"turns": 33})})
        threads = [threading.Thread(target=spend, args=(f"t{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await asyncio.to_thread(thread.join)
        assert await books(store, "p") == [("p", {"turns": 0.0}, {"turns": 33.0})]
        assert sum(taken) == 33

    place.run(main)


def test_reserving_and_settling_in_many_trees_at_once_never_deadlocks(postgres_url: str) -> None:
    place = Place("postgres", postgres_url)

    async def main() -> None:
        import asyncpg

        stores = [await place.owner(f"r{n}") for n in range(8)]
        roots = [f"p{n}" for n in range(5)]
        await commit(
            stores[0],
            rows=rows(*(row(root) for root in roots), *(row(f"{root}c", parent=root) for root in roots)),
            accounts={root: Account(root, None, {"money": 1e6}) for root in roots}
            | {f"{root}c": Account(f"{root}c", root, {"money": 1e6}) for root in roots},
        )

        async def spend(n: int, store: Store) -> None:
            order = roots[n % 5 :] + roots[: n % 5]
            for turn in range(15):
                order.reverse()
                keys = {f"{root}c:{n}:{turn}": root for root in order}
                assert await store.reserve([Charge(k, f"{r}c", {"money": 2.0}) for k, r in keys.items()]) == [None] * 5
                payloads = {root.encode(): b"shared" for root in order}
                await commit(
                    store, settled={key: {"money": 1.0} for key in keys}, payloads=payloads, revoked=[("p0", turn, "")]
                )

        await asyncio.gather(*(spend(n, store) for n, store in enumerate(stores)))
        for root in roots:
            assert await books(stores[0], f"{root}c") == [
                (name, {"money": 120.0}, {"money": 0.0}) for name in (f"{root}c", root)
            ]
        connection = await asyncpg.connect(postgres_url)
        await asyncio.sleep(1.1)  # statistics are gathered once a second
        query = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert await connection.fetchval(query) == 0
        await connection.close()

    place.run(main)
