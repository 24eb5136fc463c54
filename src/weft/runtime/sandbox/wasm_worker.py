"""Runs one WebAssembly module: a program of its own, it imports nothing of Weft. Its plan is JSON in a descriptor."""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import sys
from typing import Any


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # it ends with the thread that started it
    with open(int(sys.argv[1])) as file:
        plan = json.load(file)
    sys.exit(_run(plan))


def _run(plan: dict[str, Any]) -> int:
    from wasmtime import Config, Engine, ExitTrap, Func, Linker, Module, Store, Trap, WasiConfig, WasmtimeError

    config = Config()
    config.consume_fuel = True
    engine = Engine(config)
    store = Store(engine)
    store.set_limits(memory_size=plan["memory"], memories=16, tables=16, instances=16)
    store.set_fuel(plan["fuel"])
    wasi = WasiConfig()
    wasi.argv = plan["argv"]
    wasi.env = plan["env"].items()
    wasi.inherit_stdin()
    wasi.inherit_stdout()
    wasi.inherit_stderr()
    for host, guest, writable in plan["places"]:
        wasi.preopen_dir(host, guest, writable)
    store.set_wasi(wasi)
    os.write(plan["status"], b"begun")
    os.close(plan["status"])
    try:
        linker = Linker(engine)
        linker.define_wasi()
        instance = linker.instantiate(store, Module(engine, base64.b64decode(plan["module"])))
        start = instance.exports(store).get("_start")
        if not isinstance(start, Func):
            raise WasmtimeError("the module exports no _start: it is a library, not a program")
        start(store)
    except ExitTrap as end:
        return int(end.code)
    except (Trap, WasmtimeError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    main()
