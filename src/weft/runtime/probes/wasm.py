"""Runs a WebAssembly program with a monitor in it: `observe(module, monitor)`, then the monitor has its figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weft.core.errors import BadInput, MissingExtra
from weft.runtime.probes.binary import Module
from weft.runtime.probes.monitors import Monitor
from weft.runtime.probes.rewrite import BEGIN, COUNTER, TABLE, Rewriter

if TYPE_CHECKING:
    from wasmtime import Instance, Store


def instrument(data: bytes, monitor: Monitor) -> bytes:
    """The module's bytes with the monitor's probes in them. Raises BadInput where the bytes are no valid module."""
    rewriter = Rewriter(Module(data))
    try:
        monitor.attach(rewriter)
        return rewriter.encode()
    except LookupError as error:
        raise BadInput(f"the module isn't valid: an index in it points at nothing ({error})") from error


def begin(store: Store, instance: Instance, monitor: Monitor) -> None:
    """Connect the probes of an instance of an instrumented module that ask the host, and start it."""
    from wasmtime import Func, FuncType, Table, ValType

    exports: Any = instance.exports(store)
    monitor.begun(lambda counter, value: exports[f"{COUNTER}{counter}"].set_value(store, value))
    table = exports.get(TABLE)
    if isinstance(table, Table):
        kind = FuncType([ValType.i32(), ValType.i64()], [])
        table.set(store, 0, Func(store, kind, monitor.called))
    start = exports.get(BEGIN)
    if isinstance(start, Func):
        start(store)


def settle(store: Store, instance: Instance, monitor: Monitor) -> None:
    """Read the counters of the instance into the monitor."""
    exports: Any = instance.exports(store)
    counts: list[int] = []
    while (found := exports.get(f"{COUNTER}{len(counts)}")) is not None:
        counts.append(found.value(store))
    monitor.counts = counts


def observe(
    data: bytes,
    monitor: Monitor,
    imports: Mapping[tuple[str, str], Callable[..., Any]] | None = None,
    *,
    export: str | None = None,
    arguments: Sequence[str] = ("program",),
) -> str | None:
    """Run a program with the monitor in it: its export `main`, else `_start`, or the one named.

    `imports` are its functions by (module, name); a WASI program gets these `arguments`, writes to the standard streams
    of this process, and sees no files. Returns None, or what trap ended it: the monitor then has what was
    seen until there. Raises BadInput where the program can't be begun, MissingExtra without wasmtime."""
    try:
        from wasmtime import Engine, ExitTrap, Func, Linker, Store, Trap, WasiConfig, WasmtimeError
        from wasmtime import Module as Compiled
    except ImportError as error:
        raise MissingExtra("running WebAssembly needs wasmtime: pip install 'weft[wasm]'") from error
    engine = Engine()
    store, linker = Store(engine), Linker(engine)
    linker.define_wasi()
    wasi = WasiConfig()
    wasi.argv = list(arguments)
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    store.set_wasi(wasi)
    try:
        compiled = Compiled(engine, instrument(data, monitor))
        for wanted in compiled.imports:
            given = (imports or {}).get((wanted.module, wanted.name or ""))
            if given is not None:
                kind: Any = wanted.type
                linker.define(store, wanted.module, wanted.name or "", Func(store, kind, given))
        instance = linker.instantiate(store, compiled)
    except WasmtimeError as error:
        raise BadInput(f"the program can't be begun: {error}") from error
    exports = instance.exports(store)
    names = (export,) if export else ("main", "_start")
    start = next((found for name in names if isinstance(found := exports.get(name), Func)), None)
    if start is None:
        raise BadInput(f"the program exports no function {' or '.join(names)}")
    trap = None
    try:
        begin(store, instance, monitor)
        start(store)
    except ExitTrap as end:
        trap = f"exit status {end.code}" if end.code else None
    except (Trap, WasmtimeError) as error:
        trap = str(error)
    settle(store, instance, monitor)
    return trap
