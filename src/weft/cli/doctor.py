"""What this machine offers."""

from __future__ import annotations

import asyncio
import importlib.metadata
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import NamedTuple


class Finding(NamedTuple):
    what: str
    ok: bool
    found: str
    fix: str = ""


def examine(store: str | None) -> list[Finding]:
    """Everything Weft can use, present or not."""
    shared = store is not None and store.startswith(("postgresql://", "postgres://"))
    place = Path(".weft/journal.db" if shared or not store else store.removeprefix("sqlite:///")).expanduser()
    server = asyncio.run(_server(store)) if shared and store else []
    return [
        _python(),
        _sqlite(),
        *server,
        *_disk(place),
        _memory(),
        _groups(),
        *_walls(),
        _git(),
        _engine(),
        _embeddings(),
        *_models(),
        _hash_seed(),
    ]


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    fix = "" if sys.version_info >= (3, 11) else "install Python 3.11 or newer"
    return Finding("python", not fix, f"{version}, {os.cpu_count()} cores", fix)


def _sqlite() -> Finding:
    ok = sqlite3.sqlite_version_info >= (3, 35)
    return Finding(
        "sqlite", ok, sqlite3.sqlite_version, "" if ok else "install a Python built with SQLite 3.35 or newer"
    )


async def _server(url: str) -> list[Finding]:
    """The server of a shared journal, as far as can be seen without making tables there."""
    from weft.core.errors import MissingExtra, StoreError
    from weft.core.url import mask
    from weft.store.postgres.schema import explain
    from weft.store.postgres.server import PostgresOptions, connect, quietly

    try:
        connection = await connect(url, PostgresOptions(statement_timeout=5), durable=True)
        try:
            version = await connection.fetchval("SHOW server_version")
            began, count = perf_counter(), 50
            for _ in range(count):  # a commit that the log must hold, of nothing
                await connection.fetchval("SELECT pg_logical_emit_message(true, 'weft', '')")
            rate = count / (perf_counter() - began)
        finally:
            await quietly(connection)
    except MissingExtra as error:
        return [Finding("server", False, "asyncpg is not installed", str(error))]
    except Exception as error:
        found = error if isinstance(error, StoreError) else explain(error, mask(url))
        return [Finding("server", False, str(found), "mend that, or name another store with --store or WEFT_STORE")]
    return [
        Finding("server", True, f"PostgreSQL {version} at {mask(url)}"),
        Finding("commits", True, f"{rate:,.0f} per second: the limit of strict sequential steps there"),
    ]


def _disk(place: Path) -> list[Finding]:
    folder = next(parent for parent in place.absolute().parents if parent.exists())
    free = shutil.disk_usage(folder).free
    findings = [Finding("disk", free > 1e8, f"{free / 1e9:.1f} GB free at {folder}", "" if free > 1e8 else "free some")]
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            began, count = perf_counter(), 50
            for _ in range(count):
                file.write(b"x" * 512)
                file.flush()
                os.fsync(file.fileno())
            rate = count / (perf_counter() - began)
        findings.append(Finding("fsync", True, f"{rate:,.0f} per second: the limit of strict sequential steps"))
    except OSError as error:
        findings.append(Finding("fsync", False, str(error), "choose a writable place with --store or WEFT_STORE"))
    return findings


def _memory() -> Finding:
    try:
        available = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return Finding("memory", True, "unknown")
    ok = available > 5e8
    return Finding("memory", ok, f"{available / 1e9:.1f} GB free", "" if ok else "the embedded model needs 0.5 GB")


def _groups() -> Finding:
    """How what a call takes is limited here."""
    if not sys.platform.startswith("linux"):
        return Finding("resources", False, "not limited", "calls are limited on Linux only")
    from weft.runtime.governor import backend

    found = backend()
    weaker = f"; weaker: {'; '.join(found.weaker)}" if found.weaker else ""
    fix = "" if found.name != "polling" else "let Weft make control groups: as root, or in a delegated group"
    return Finding("resources", found.name != "polling", f"groups by {found.name}{weaker}", fix)


def _git() -> Finding:
    git = shutil.which("git")
    if git is None:
        return Finding("git", False, "not found", "install git (the changelog example reads histories with it)")
    version = subprocess.run([git, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return Finding("git", True, version.removeprefix("git version "))


def _walls() -> list[Finding]:
    """The sandboxes: what each holds less well than the best, and how to get it."""
    from weft.runtime.sandbox import report

    findings = []
    for name, found in report().items():
        weaker = "".join(f"; weaker: {text}" for text in found.weaker)
        findings.append(Finding(f"{name} wall", found.ok, f"{found.found}{weaker}", found.fix))
    return findings


def _embeddings() -> Finding:
    try:
        return Finding("embeddings", True, f"onnxruntime {importlib.metadata.version('onnxruntime')}")
    except importlib.metadata.PackageNotFoundError:
        return Finding("embeddings", False, "onnxruntime is not installed", "pip install 'weft[embed]'")


def _engine() -> Finding:
    from weft.core.errors import EngineUnfit, MissingExtra
    from weft.model.engine import abi

    try:
        abi.library()
    except MissingExtra:
        return Finding("local engine", False, "xllamacpp is not installed", "pip install 'weft[local]'")
    except EngineUnfit as error:
        lacks = "only its server is used, without programs, exact repeats, threads and streams"
        fix = f"{lacks}; pip install xllamacpp=={abi.VERSION}"
        return Finding("local engine", False, str(error), fix)
    return Finding("local engine", True, f"xllamacpp {abi.VERSION}")


def _models() -> list[Finding]:
    from weft.model.catalogue import catalogue, embeddings

    findings = []
    files = [entry for embedding in embeddings.values() for entry in embedding.files]
    for entry in (*catalogue.values(), *files):
        size = f"{entry.size / 1e6:,.0f} MB"
        here = entry.path.is_file()
        text = f"{entry.path} ({size})" if here else f"not in the cache ({size}); fetched when first used"
        findings.append(Finding(entry.name, here, text))
    return findings


def _hash_seed() -> Finding:
    seed = os.environ.get("PYTHONHASHSEED", "random")
    return Finding("hash seed", True, f"{seed} (bodies must not depend on the order of a set of strings; sort it)")
