"""Log lines of programs and libraries on this machine, each with the format string that it was made from.

    python -m benchmarks.trace.chatter SYSTEM       # JSON lines: [message, template]

Python's records hold their format and their arguments, so the true template of each line is known without anybody's
opinion: what fills in a `%s` is a variable, all else is static. A line without arguments is its own template if its
statement logs nothing else; else it was put together before, and is left out, as is what has no static word.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

_FIELD = re.compile(r"%(?:\(\w+\))?[-#0 +]*(?:\d+|\*)?(?:\.(?:\d+|\*))?(?:hh|h|ll|l|z|j|t)?([sdrfgxXcipueEoa%])")
MOST = 2_000
"""Lines that are taken of a system."""


def template_of(form: str) -> str:
    """A format string with `<*>` for what is filled in."""
    return _FIELD.sub(lambda match: "%" if match[1] == "%" else "<*>", form)


def captured(work: Callable[[], Any]) -> Iterator[tuple[str, str]]:
    """What is logged while this runs."""
    found: list[tuple[str, str, tuple[str, int] | None]] = []
    make = logging.getLogRecordFactory()

    def record(*args: Any, **kwargs: Any) -> logging.LogRecord:
        one = make(*args, **kwargs)
        try:
            message = " ".join(one.getMessage().split("\n"))
        except Exception:  # whoever logged gave what its format can't hold
            return one
        template = template_of(str(one.msg)) if one.args else message
        if re.search("[A-Za-z]{2}", template.replace("<*>", "")):
            found.append((message, template, None if one.args else (one.pathname, one.lineno)))
        return one

    logging.setLogRecordFactory(record)
    try:
        work()
    finally:
        logging.setLogRecordFactory(make)
    texts: dict[tuple[str, int] | None, set[str]] = defaultdict(set)
    for _, template, site in found:
        texts[site].add(template)
    lines = [(message, template) for message, template, site in found if site is None or len(texts[site]) == 1]
    yield from lines[:MOST]


# --- what they do -----------------------------------------------------------------------------------------------------


def _pip() -> None:
    from pip._internal.cli.main import main

    sys.stdout = sys.stderr
    for name in ("weft[dev]", "uvicorn", "pytest", "mypy", "openai", "scikit-learn", "torch", "jsonschema", "httpx2"):
        main(["-vvv", "install", "--dry-run", "--no-index", "--no-build-isolation", name])
    main(["-vvv", "list"])
    main(["-vvv", "download", "--no-index", "--no-deps", "nothing==1.0"])


def _asyncio() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(10))
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for _ in range(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello")
            await reader.read()
            writer.close()
        for _ in range(10):
            child = await asyncio.create_subprocess_exec("true", stdout=subprocess.PIPE)
            await child.wait()
        server.close()

    for _ in range(3):
        asyncio.run(main(), debug=True)


def _urllib3() -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    import urllib3

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status = int(self.path.rsplit("/", 1)[-1])
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/items/200")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pool = urllib3.PoolManager(retries=urllib3.Retry(2, status_forcelist=[503], backoff_factor=0.001))
    base = f"http://127.0.0.1:{server.server_port}"
    for at in range(120):
        for path in (f"/items/{at}/200", f"/users/{at}/{(404, 201, 302, 503)[at % 4]}"):
            try:
                pool.request("GET", base + path)
            except urllib3.exceptions.HTTPError:
                continue
    try:
        pool.request("GET", "http://127.0.0.1:9/none", retries=3)
    except urllib3.exceptions.HTTPError:
        server.shutdown()


def _setuptools() -> None:
    import os

    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        for package in ("left", "right", "middle"):
            for name in ("__init__", *(f"part_{at}" for at in range(25))):
                file = Path(place, "src", package, f"{name}.py")
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text("x = 1\n")
        Path("README.md").write_text("A package.\n")
        from setuptools import setup

        sys.stdout = sys.stderr
        setup(
            name="chatter",
            version="1.2.3",
            package_dir={"": "src"},
            packages=["left", "right", "middle"],
            script_args=["-v", "-v", "bdist_wheel", "sdist"],
        )
        os.chdir("/")


def _markdown() -> None:
    from markdown_it import MarkdownIt

    for file in sorted(Path("docs").rglob("*.md"))[:12]:
        MarkdownIt("commonmark").enable("table").parse(file.read_text())


def _charset_normalizer() -> None:
    from charset_normalizer import from_bytes

    texts = ("Ünïcödé text über alles, très bien. " * 30, "Привет, мир. Как дела? " * 30, "plain words only " * 30)
    for text in texts:
        for encoding in ("utf-8", "latin-1", "cp1252", "cp1251", "utf-16", "koi8_r"):
            from_bytes(text.encode(encoding, "ignore"), explain=True)


def _filelock() -> None:
    from filelock import FileLock

    with tempfile.TemporaryDirectory() as place:
        for at in range(80):
            with FileLock(f"{place}/lock{at}.lock"):
                pass
        held = FileLock(f"{place}/held.lock")
        with held:
            for _ in range(20):
                try:
                    FileLock(f"{place}/held.lock", timeout=0).acquire()
                except TimeoutError:
                    continue


def _uvicorn() -> None:
    import urllib.request

    import uvicorn

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            status = 404 if "missing" in scope["path"] else 200
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})

    def get(path: str) -> None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:8931{path}").read()
        except OSError:
            return

    async def main() -> None:
        server = uvicorn.Server(uvicorn.Config(app, port=8931, log_level="trace", log_config=None, lifespan="on"))
        running = asyncio.create_task(server.serve())
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for at in range(60):
            await asyncio.to_thread(get, f"/items/{at}?page={at % 3}")
            await asyncio.to_thread(get, f"/missing/{at}")
        server.should_exit = True
        await running

    asyncio.run(main())


def _matplotlib() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for family in ("DejaVu Sans", "Arial", "serif", "monospace"):
        pyplot.rcParams["font.family"] = family
        pyplot.plot([1, 2, 3])
        pyplot.title("A figure")
        with tempfile.TemporaryFile() as file:
            pyplot.savefig(file)


def _pillow() -> None:
    import io

    from PIL import Image

    for at in range(1, 60):
        for form in ("PNG", "TIFF"):
            file = io.BytesIO()
            Image.new("RGB", (at, at)).save(file, form)
            Image.open(io.BytesIO(file.getvalue())).load()


def _sqlalchemy() -> None:
    import sqlalchemy as sql

    logging.getLogger("sqlalchemy.engine").setLevel(logging.DEBUG)
    engine = sql.create_engine("sqlite://")
    key = sql.Column("id", sql.Integer, primary_key=True)
    table = sql.Table("items", sql.MetaData(), key, sql.Column("n", sql.Text))
    sys.stdout = sys.stderr
    table.metadata.create_all(engine)
    for at in range(60):
        with engine.begin() as opened:
            opened.execute(table.insert(), {"n": f"name{at}"})
            opened.execute(sql.select(table).where(table.c.id == at)).fetchall()


def _websockets() -> None:
    import websockets

    async def main() -> None:
        async def echo(socket: Any) -> None:
            async for message in socket:
                await socket.send(message)

        async with websockets.serve(echo, "127.0.0.1", 0) as server:
            port = next(iter(server.sockets)).getsockname()[1]
            for at in range(25):
                async with websockets.connect(f"ws://127.0.0.1:{port}/room/{at}") as socket:
                    await socket.send(f"hello {at}")
                    await socket.recv()

    asyncio.run(main())


def _h2() -> None:
    from h2.config import H2Configuration
    from h2.connection import H2Connection

    mine = H2Connection(H2Configuration(client_side=True, logger=_Plain("h2")))
    other = H2Connection(H2Configuration(client_side=False, logger=_Plain("h2")))
    mine.initiate_connection()
    other.initiate_connection()
    for at in range(40):
        stream = mine.get_next_available_stream_id()
        head = [(":method", "GET"), (":path", f"/items/{at}"), (":authority", "a.test"), (":scheme", "https")]
        mine.send_headers(stream, head, end_stream=True)
        other.receive_data(mine.data_to_send())
        other.send_headers(stream, [(":status", "200"), ("content-length", str(at))])
        other.send_data(stream, b"x" * at, end_stream=True)
        mine.receive_data(other.data_to_send())


class _Plain(logging.Logger):
    """h2 asks for a method `trace`."""

    def trace(self, message: str, *args: Any) -> None:
        self.debug(message, *args)


def _tornado() -> None:
    import urllib.request

    import tornado.web

    class Item(tornado.web.RequestHandler):
        def get(self, at: str) -> None:
            self.set_status((200, 404, 500)[int(at) % 3])

    async def main() -> None:
        server = tornado.web.Application([(r"/items/(\d+)", Item)]).listen(8932, "127.0.0.1")
        for at in range(80):
            await asyncio.to_thread(_quietly, urllib.request.urlopen, f"http://127.0.0.1:8932/items/{at}")
            await asyncio.to_thread(_quietly, urllib.request.urlopen, f"http://127.0.0.1:8932/other/{at}")
        server.stop()

    asyncio.run(main())


def _quietly(call: Callable[[str], Any], url: str) -> None:
    try:
        call(url)
    except OSError:
        return


def _fonttools() -> None:
    from fontTools.fontBuilder import FontBuilder
    from fontTools.subset import Options, Subsetter
    from fontTools.ttLib import TTFont

    with tempfile.TemporaryDirectory() as place:
        for size in range(3, 12):
            builder = FontBuilder(1000, isTTF=True)
            names = [".notdef", *(f"g{at}" for at in range(size))]
            builder.setupGlyphOrder(names)
            builder.setupCharacterMap({65 + at: f"g{at}" for at in range(size)})
            builder.setupGlyf({name: _glyph() for name in names})
            builder.setupHorizontalMetrics(dict.fromkeys(names, (500, 0)))
            builder.setupHorizontalHeader()
            builder.setupNameTable({"familyName": "A"})
            builder.setupOS2()
            builder.setupPost()
            builder.save(f"{place}/{size}.ttf")
            font = TTFont(f"{place}/{size}.ttf")
            subset = Subsetter(Options(timing=True))
            subset.populate(unicodes=[65, 66])
            subset.subset(font)
            font.save(f"{place}/{size}-less.ttf")


def _glyph() -> Any:
    from fontTools.ttLib.tables._g_l_y_f import Glyph

    return Glyph()


PYTHON: dict[str, tuple[str, Callable[[], None]]] = {
    "pip": ("pip", _pip), "asyncio": ("asyncio", _asyncio), "urllib3": ("urllib3", _urllib3),
    "setuptools": ("setuptools", _setuptools), "markdown-it": ("markdown_it", _markdown),
    "charset-normalizer": ("charset_normalizer", _charset_normalizer), "filelock": ("filelock", _filelock),
    "uvicorn": ("uvicorn", _uvicorn), "matplotlib": ("matplotlib", _matplotlib), "pillow": ("PIL", _pillow),
    "sqlalchemy": ("sqlalchemy", _sqlalchemy), "websockets": ("websockets", _websockets), "h2": ("h2", _h2),
    "tornado": ("tornado", _tornado), "fonttools": ("fontTools", _fonttools),
}  # fmt: skip
"""The module that must be there, and what it does."""


def main() -> None:
    _, work = PYTHON[sys.argv[1]]
    logging.basicConfig(level=1, handlers=[logging.NullHandler()])
    out = sys.stdout
    for one in captured(work):
        out.write(json.dumps(one) + "\n")


def lines(system: str) -> list[tuple[str, str]] | None:
    """The lines of a system, by a process of its own; None if it is not installed."""
    if find_spec(PYTHON[system][0]) is None:
        return None
    done = subprocess.run([sys.executable, "-m", "benchmarks.trace.chatter", system], capture_output=True, text=True,
                          check=False, timeout=120)  # fmt: skip
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("[")]
    return [(message, template) for message, template in found]


if __name__ == "__main__":
    main()
