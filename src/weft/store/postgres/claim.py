"""Who takes which processes, as statements: two never take the same one."""

from __future__ import annotations

from weft.store.base import COPY, MAX_STRIKES, SUSPECT
from weft.store.postgres.commit import COLUMNS
from weft.store.postgres.schema import IS_CLAIMABLE

# The owners of unfinished processes are found by jumps in the index: they are few among many rows.
_DEAD = f"""WITH RECURSIVE names AS (
        (SELECT owner FROM weft.processes WHERE {IS_CLAIMABLE} AND owner IS NOT NULL ORDER BY owner LIMIT 1)
        UNION ALL
        SELECT (SELECT owner FROM weft.processes WHERE {IS_CLAIMABLE} AND owner > names.owner ORDER BY owner LIMIT 1)
            FROM names WHERE owner IS NOT NULL),
    dead AS (SELECT owner FROM names WHERE owner IS NOT NULL
        AND NOT EXISTS (SELECT FROM weft.owners o WHERE o.owner = names.owner)),"""
_ON_TRIAL = f"$4::text[] IS NOT NULL AND free.state = 'running' AND free.strikes + free.died::int >= {SUSPECT}"
_GIVEN = {"strikes": "free.strikes + free.died::int AS strikes"}
_CLAIM = f"""
    me AS (SELECT programs FROM weft.owners WHERE owner = $1),
    free AS (SELECT id, state, strikes, owner IS NOT NULL AND owner NOT LIKE '{COPY}%' AND state = 'running' AS died
        FROM weft.processes p
        WHERE {{which}} AND state = ANY($3::text[])
        AND id <> ALL($6::text[]) AND EXISTS (SELECT FROM me)
        AND ($4::text[] IS NULL OR ((queue IS NULL OR queue = ANY($4)) AND strikes < {MAX_STRIKES} AND EXISTS (
            SELECT FROM me, unnest(me.programs) AS mine
            WHERE split_part(mine, '@', 1) = workflow AND (started = 0 OR mine = workflow || '@' || version
                OR NOT EXISTS (SELECT FROM weft.owners o WHERE o.programs @> ARRAY[workflow || '@' || version])))))
        ORDER BY seq LIMIT $5 FOR UPDATE SKIP LOCKED)
    UPDATE weft.processes p SET owner = $1,
        strikes = free.strikes + free.died::int - ({_ON_TRIAL})::int FROM free WHERE p.id = free.id
    RETURNING {", ".join(_GIVEN.get(column, "p." + column) for column in COLUMNS)}, p.seq"""
CLAIM = _DEAD + _CLAIM.format(
    which=f"$2::text[] IS NULL AND {IS_CLAIMABLE} AND (owner IS NULL OR owner IN (SELECT owner FROM dead))"
)
"""Parameters: owner, ids, states, queues, limit, not these."""
CLAIM_THESE = "WITH " + _CLAIM.format(
    which="id = ANY($2::text[]) AND (owner IS NULL OR NOT EXISTS (SELECT FROM weft.owners o WHERE o.owner = p.owner))"
)

DUE = f"""WITH due AS (SELECT id, wake_at FROM weft.processes
        WHERE state = 'waiting' AND owner = $1 AND wake_at <= $2 AND EXISTS (SELECT FROM weft.owners WHERE owner = $1)
        ORDER BY wake_at LIMIT $3),
    unwait AS (DELETE FROM weft.waits USING due WHERE process = due.id)
    UPDATE weft.processes p SET state = 'running', wake_at = NULL FROM due WHERE p.id = due.id
    RETURNING {", ".join("p." + column for column in COLUMNS)}, due.wake_at AS due"""

SPARE = """UPDATE weft.processes SET strikes = CASE WHEN owner IS NULL THEN 0 ELSE strikes END, owner = NULL
    WHERE state = 'running' AND (owner = $1 OR (owner IS NULL AND id = ANY($2::text[])))"""
