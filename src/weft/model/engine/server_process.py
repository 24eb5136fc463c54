"""The child process that holds the model: reads its settings from stdin, serves loopback, leaves with its parent.

Run by `weft.model.engine.server`, never by hand. Settings come as one JSON line on stdin, so the key is on no command
line; the port goes back as one JSON line on stdout. End of file on stdin means that the parent is gone.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time


def main() -> None:
    settings = json.loads(sys.stdin.buffer.readline())
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever the C library prints is a log
    threading.Thread(target=_leave_with_parent, args=(settings["parent"],), daemon=True).start()

    xllamacpp = importlib.import_module("xllamacpp")  # it has no type stubs
    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [settings["key"]]
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context"] * settings["slots"]  # llama.cpp shares it out among the slots
    params.n_threads_http = settings["slots"] + 4
    params.cpuparams.n_threads = 1  # two threads on two busy cores wait for each other: 10-100 times slower
    params.cpuparams_batch.n_threads = 1
    params.n_gpu_layers = 0
    params.ui = False
    params.warmup = False
    params.cache_ram_mib = 0
    server = xllamacpp.Server(params)
    print(json.dumps({"address": server.listening_address}), file=answer, flush=True)
    threading.Event().wait()


def _leave_with_parent(parent: int) -> None:
    threading.Thread(target=_leave_at_end_of_input, daemon=True).start()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


def _leave_at_end_of_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    main()
