"""Restate: its server (a Rust program with a log of its own) beside the Python service, which hypercorn serves.

The server is looked for as `restate-server` on the PATH or where $RESTATE_SERVER says; `npm install
@restatedev/restate-server` brings it. Its log is flushed with fsync, many entries at once, and a step's outcome is
acknowledged before the next step starts. Memory is that of the Python process; `server_mb` is the server's.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers import (
    STEPS,
    STRICT,
    WARM_UP,
    Clock,
    Order,
    Result,
    Unavailable,
    check,
    common,
    main,
    peak_mb,
)

CONNECTIONS = 64
"""Workflows in flight at once, at most."""


def service() -> Any:
    import restate
    from restate import Context

    def step() -> int:
        return 1

    bench = restate.Service("bench")

    async def sequential(ctx: Context, count: int) -> int:
        return sum([await ctx.run_typed("step", step) for _ in range(count)])

    async def fanout(ctx: Context, count: int) -> int:
        steps = [ctx.run_typed("step", step) for _ in range(count)]
        return sum([await done for done in await restate.gather(*steps)])

    for handler in (sequential, fanout):
        handler.__annotations__["ctx"] = Context  # the SDK reads annotations as they are
        handler.__annotations__.update(count=int, **{"return": int})
        bench.handler()(handler)
    return restate.app(services=[bench])


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def server(dir: Path, node: int, ingress: int, admin: int) -> subprocess.Popen[bytes]:
    """Start it; `main` ends it, with all that it started."""
    program = os.environ.get("RESTATE_SERVER") or shutil.which("restate-server")
    if not program:
        raise Unavailable("no restate-server on the PATH (npm install @restatedev/restate-server)")
    settings = {
        "BASE_DIR": str(dir),
        "LISTEN_MODE": "tcp",
        "BIND_IP": "127.0.0.1",
        "BIND_PORT": str(node),
        "INGRESS__BIND_PORT": str(ingress),
        "ADMIN__BIND_PORT": str(admin),
        "DISABLE_TELEMETRY": "true",
        "LOG_FILTER": "error",
    }
    environment = {**os.environ, **{f"RESTATE_{name}": value for name, value in settings.items()}}
    log = (dir / "server.log").open("wb")
    return subprocess.Popen([program, "--no-logo"], env=environment, stdout=log, stderr=log)


class Connection:
    """A kept-alive connection to the server; a general client would cost more than the work."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def request(self, method: str, path: str, body: Any = None) -> Any:
        """The answer's JSON. Raises OSError if nobody listens, RuntimeError if the answer is not a good one."""
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        content = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
        status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().splitlines()
        headers = dict(line.split(": ", 1) for line in lines if line)
        answer = await reader.readexactly(int(headers["content-length"]))
        if status.split()[1][0] != "2":
            raise RuntimeError(f"{method} {path}: {status}: {answer[:200]!r}")
        return json.loads(answer) if answer else None


async def up(child: subprocess.Popen[bytes], port: int, path: str) -> None:
    """Wait until the server answers."""
    for _ in range(300):
        try:
            await Connection(port).request("GET", path)
            return
        except (OSError, RuntimeError):
            if child.poll() is not None:
                raise Unavailable(f"restate-server ended at once with status {child.returncode}") from None
        await asyncio.sleep(0.1)
    raise Unavailable("restate-server did not come up within 30 s")


async def measure(job: str, order: Order) -> Result:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    app_port, node, ingress, admin = free_ports(4)
    config = Config()
    config.bind = [f"127.0.0.1:{app_port}"]
    config.h2_max_concurrent_streams = 2**31 - 1
    serving = asyncio.create_task(serve(service(), config, shutdown_trigger=asyncio.Event().wait))
    child = server(order.dir, node, ingress, admin)
    await up(child, admin, "/health")
    await up(child, ingress, "/restate/health")
    await Connection(admin).request("POST", "/deployments", {"uri": f"http://127.0.0.1:{app_port}"})

    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    for _ in range(CONNECTIONS):
        idle.put_nowait(Connection(ingress))

    async def run(count: int) -> int:
        connection = await idle.get()
        done = await connection.request("POST", f"/bench/{'fanout' if job == 'fanout' else 'sequential'}", count)
        idle.put_nowait(connection)
        return int(done)

    await run(WARM_UP)
    check(serving.done(), False)
    with Clock(order.count) as clock:
        if job == "workflows":
            done = await asyncio.gather(*(run(STEPS) for _ in range(order.count)))
        else:
            done = [await run(order.count)]
    check(sum(done), order.count * (STEPS if job == "workflows" else 1))
    server_mb = sum(peak_mb(one.pid) for one in psutil.Process(child.pid).children(recursive=True))
    server_mb += peak_mb(child.pid)  # the program itself, or the wrapper npm puts before it
    return clock.result(STRICT, server_mb=server_mb)


if __name__ == "__main__":
    main(common(measure), "restate-sdk")
