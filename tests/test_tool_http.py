"""Fetching by the primitive, from real servers on this machine: every host and address is decided on."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import weft
from tests.programs import drive
from weft.core.errors import BadInput, Denied, SecretUnset
from weft.core.record import Decision, Outcome
from weft.tool import http

pytest.importorskip("httpx2", reason="httpx2 is not installed: pip install 'weft[http]'")


class Site:
    """A server on this machine. `seen` are the requests: method, path, headers, body."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.seen: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                headers = {name.lower(): value for name, value in self.headers.items()}
                site.seen.append((self.command, self.path, headers, self.rfile.read(length)))
                site.answers.get(self.path.partition("?")[0], hello)(self)
                self.close_connection = True

            do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_PATCH = answer

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self.server.server_address[1]
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def url(self, path: str = "/", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    def redirects(self, path: str, to: str, status: int = 302) -> None:
        self.answers[path] = lambda handler: send(handler, b"", status, {"Location": to})


def send(
    handler: BaseHTTPRequestHandler, body: bytes, status: int = 200, headers: dict[str, str] | None = None
) -> None:
    handler.send_response(status)
    for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
        handler.send_header(name, value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def hello(handler: BaseHTTPRequestHandler) -> None:
    send(handler, b"hello", headers={"Content-Type": "text/plain"})


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture
def other() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("WEFT_POLICY", "WEFT_ALLOW", "WEFT_ASK", "WEFT_DENY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lookups(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """Names that this test gives addresses to, one after the other; the last one stays."""
    table: dict[str, list[str]] = {}
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name in table:
            host = table[name].pop(0) if len(table[name]) > 1 else table[name][0]
        return real(host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return table


@weft.workflow(name="http.does")
async def does(url: str, options: dict[str, Any]) -> Any:
    try:
        return await http.fetch(url, **options)
    except (weft.WeftError, OSError) as error:
        return error


def get(tmp_path: Path, url: str, options: dict[str, Any] | None = None, **policy: Any) -> Any:
    place = str(tmp_path / "journal.db")
    return drive(place, lambda runtime: runtime.run(does, url, options or {}), policy=weft.Policy(**policy))


ANY = {"allow": ("net:**",)}


# --- what it does ---------------------------------------------------------------------------------------------------


def test_an_answer_has_status_headers_and_body(site: Site, tmp_path: Path) -> None:
    site.answers["/json"] = lambda h: send(h, b'{"a": [1]}', 418, {"Content-Type": "application/json", "X-Two": "2"})
    found = get(tmp_path, site.url("/json?q=1"), **ANY)
    assert (found.status, found.ok, found.json(), found.headers["x-two"]) == (418, False, {"a": [1]}, "2")
    assert found.url == site.url("/json?q=1")
    method, path, headers, _ = site.seen[0]
    assert (method, path, headers["host"]) == ("GET", "/json?q=1", f"127.0.0.1:{site.port}")
    site.answers["/latin"] = lambda h: send(h, "é".encode("latin-1"), 200, {"Content-Type": "text/x; charset=latin-1"})
    site.answers["/gzip"] = lambda h: send(h, gzip.compress(b"small"), 200, {"Content-Encoding": "gzip"})
    assert get(tmp_path, site.url("/latin"), **ANY).text == "é"
    assert get(tmp_path, site.url("/gzip"), **ANY).body == b"small"


def test_bodies_are_bytes_texts_or_json(site: Site, tmp_path: Path) -> None:
    for body in (b"\x00\x01", "é", {"a": 1}, [1]):
        get(tmp_path, site.url(), {"method": "post", "body": body}, **ANY)
    assert [seen[3] for seen in site.seen] == [b"\x00\x01", "é".encode(), b'{"a": 1}', b"[1]"]
    assert [seen[2].get("content-type") for seen in site.seen][1:] == [
        "text/plain; charset=utf-8", "application/json", "application/json",
    ]  # fmt: skip


def test_without_a_process_it_fetches_too(site: Site) -> None:
    assert asyncio.run(http.fetch(site.url())).text == "hello"


def test_the_method_says_whether_it_may_be_sent_twice(site: Site, tmp_path: Path) -> None:
    """A process that dies in the middle of a POST does not know what came of it."""
    effects = {}

    @weft.workflow(name="http.methods")
    async def methods() -> None:
        for method in ("GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"):
            await http.fetch(site.url(), method=method)
        await http.fetch.options(effect="idempotent")(site.url(), method="POST")

    async def use(runtime: weft.Runtime) -> None:
        from weft.runtime.execute import Execution

        begin = Execution.begin

        def watch(self: Execution) -> None:
            effects[self.number] = self.step.effect
            begin(self)

        Execution.begin = watch  # type: ignore[method-assign]
        try:
            await runtime.run(methods)
        finally:
            Execution.begin = begin  # type: ignore[method-assign]

    drive(str(tmp_path / "journal.db"), use, policy=weft.Policy(allow=("net:**",)))
    assert list(effects.values()) == [
        "pure", "pure", "idempotent", "idempotent", "at_most_once", "at_most_once", "idempotent",
    ]  # fmt: skip


def test_what_is_no_address_method_or_header_is_refused(site: Site, tmp_path: Path) -> None:
    for url in ("ftp://127.0.0.1/x", "file:///etc/passwd", "127.0.0.1", "http://", "http://a b/", "http://x\\@y/"):
        assert isinstance(get(tmp_path, url, **ANY), BadInput)
    for options in (
        {"method": "CONNECT"}, {"method": "GET\r\nX: y"}, {"headers": {"X": "a\r\nY: b"}}, {"headers": {"Host": "x"}},
        {"headers": {"Content-Length": "3"}},
    ):  # fmt: skip
        assert isinstance(get(tmp_path, site.url(), options, **ANY), BadInput)
    assert site.seen == []


# --- what it must not do --------------------------------------------------------------------------------------------


def test_by_default_no_host_is_reached_and_the_line_says_what_to_allow(site: Site, tmp_path: Path) -> None:
    import shlex

    error = get(tmp_path, site.url())
    assert isinstance(error, Denied) and site.seen == []
    allow = shlex.split(error.fix)[-1]
    assert allow == f"net:127.0.0.1:{site.port}"
    assert get(tmp_path, site.url(), allow=(allow,)).text == "hello"


@pytest.mark.parametrize(
    "host", ["127.1", "0x7f.0.0.1", "2130706433", "[::ffff:127.0.0.1]", "user@127.0.0.1", "localhost"]
)
def test_a_denied_address_is_denied_in_every_spelling(site: Site, tmp_path: Path, host: str) -> None:
    error = get(tmp_path, site.url(host=host), allow=("net:**",), deny=("net:127.0.0.1",))
    assert isinstance(error, Denied) and site.seen == []


def test_every_redirect_is_decided_on(site: Site, other: Site, tmp_path: Path) -> None:
    site.redirects("/out", other.url("/in"))
    site.redirects("/again", "/out")
    site.redirects("/here", "/there?x=1")
    allow = (f"net:127.0.0.1:{site.port}",)
    assert get(tmp_path, site.url("/here"), allow=allow).url == site.url("/there?x=1")
    error = get(tmp_path, site.url("/again"), allow=allow)
    assert isinstance(error, Denied) and error.resource == f"127.0.0.1:{other.port}" and other.seen == []
    assert error.fix == f"allow it with: --allow net:127.0.0.1:{other.port}"
    assert get(tmp_path, site.url("/again"), **ANY).url == other.url("/in")
    one_use = get(tmp_path, site.url("/out"), allow=(*allow, f"net:127.0.0.1:{other.port} uses=1"))
    assert isinstance(one_use, Denied) and "by a call of its own" in one_use.fix
    asked = get(tmp_path, site.url("/out"), allow=("net:**",), ask=(f"net:127.0.0.1:{other.port}",))
    assert isinstance(asked, Denied) and "by a call of its own" in asked.fix


def test_redirects_that_lead_nowhere_end(site: Site, tmp_path: Path) -> None:
    site.redirects("/round", "/round")
    site.redirects("/file", "file:///etc/passwd")
    site.redirects("/odd", "http://x\\@y/")
    for path in ("/round", "/file", "/odd"):
        assert isinstance(get(tmp_path, site.url(path), **ANY), http.HttpError)


def test_redirects_change_the_method_as_browsers_do(site: Site, tmp_path: Path) -> None:
    for status in (301, 302, 303, 307, 308):
        site.seen.clear()
        site.redirects("/go", "/there", status)
        get(tmp_path, site.url("/go"), {"method": "POST", "body": "x"}, **ANY)
        assert [(seen[0], seen[3]) for seen in site.seen][1] == (("GET", b"") if status < 304 else ("POST", b"x"))


def test_a_name_that_leads_to_a_denied_address_is_not_connected_to(
    site: Site, tmp_path: Path, lookups: dict[str, list[str]]
) -> None:
    lookups["inside.example"] = ["127.0.0.1"]
    lookups["rebinding.example"] = ["192.0.2.1", "127.0.0.1"]  # harmless when it is looked at, and then not
    allow = ("net:*.example",)
    assert get(tmp_path, site.url(host="inside.example"), allow=allow).text == "hello"
    assert site.seen[-1][2]["host"] == f"inside.example:{site.port}"
    site.seen.clear()
    for deny in ("net:127.0.0.0/8", "net:127.0.0.1", "net:localhost"):
        error = get(tmp_path, site.url(host="inside.example"), allow=allow, deny=(deny,))
        assert isinstance(error, Denied) and error.resource == f"127.0.0.1:{site.port} inside.example"
    error = get(tmp_path, site.url(host="rebinding.example"), {"timeout": 1}, allow=allow, deny=("net:127.0.0.1",))
    assert isinstance(error, http.HttpError)  # it went to 192.0.2.1, which is nobody's
    assert site.seen == []


def test_a_person_said_yes_to_the_host_and_so_to_its_address(
    site: Site, tmp_path: Path, lookups: dict[str, list[str]]
) -> None:
    lookups["asked.example"] = ["127.0.0.1"]

    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, site.url(host="asked.example"), {})
        while not (questions := await runtime.store.questions()):
            await asyncio.sleep(0.02)
        await runtime.people.answer(questions[0].id, "once", "me")
        return await run

    found = drive(str(tmp_path / "j.db"), use, policy=weft.Policy(ask=("net:*.example",), allow=("net:**",)))
    assert found.text == "hello"


def test_no_proxy_of_the_environment_is_used(site: Site, other: Site, tmp_path: Path, monkeypatch: Any) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, other.url())
    assert get(tmp_path, site.url(), **ANY).text == "hello"
    assert other.seen == []
    allow = (f"net:127.0.0.1:{site.port}",)
    assert isinstance(get(tmp_path, site.url(), {"proxy": other.url()}, allow=allow), Denied)
    get(tmp_path, site.url("/x"), {"proxy": other.url()}, **ANY)
    assert other.seen[0][1] == site.url("/x")


# --- secrets --------------------------------------------------------------------------------------------------------


def test_a_secret_goes_to_the_host_it_is_for_and_nowhere_else(
    site: Site, other: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_TEST_PASS", "tell-nobody-this")
    token = weft.secret("a-token", env="HTTP_TEST_PASS")
    site.redirects("/out", other.url("/in"))
    site.redirects("/here", "/there")
    site.answers["/echo"] = lambda h: send(h, h.headers["Authorization"].encode())
    options = {"headers": {"Authorization": ("Bearer ", token), "X-Plain": "1", "X-Key": token}}
    get(tmp_path, site.url("/here"), options, **ANY)
    assert [seen[2]["authorization"] for seen in site.seen] == ["Bearer tell-nobody-this"] * 2
    get(tmp_path, site.url("/out"), options, **ANY)
    assert {"authorization", "x-key"}.isdisjoint(other.seen[0][2]) and other.seen[0][2]["x-plain"] == "1"
    assert get(tmp_path, site.url("/echo"), options, **ANY).text == "Bearer [secret:a-token]"
    assert b"tell-nobody-this" not in (tmp_path / "journal.db").read_bytes()
    error = get(tmp_path, site.url(), options, allow=("net:**",), deny=("secret:a-token",))
    assert isinstance(error, Denied) and error.action == "secret.open"
    monkeypatch.delenv("HTTP_TEST_PASS")
    assert isinstance(get(tmp_path, site.url(), options, **ANY), SecretUnset)


def test_a_text_that_looks_like_a_secret_opens_none(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_TEST_PASS", "tell-nobody-this")
    weft.secret("a-token", env="HTTP_TEST_PASS")
    get(tmp_path, site.url(), {"headers": {"X": "[secret:a-token]"}}, **ANY)
    assert site.seen[0][2]["x"] == "[secret:a-token]"


# --- what servers do ------------------------------------------------------------------------------------------------


def test_a_slow_answer_and_an_endless_one_end(site: Site, tmp_path: Path) -> None:
    def drips(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        for _ in range(100):
            handler.wfile.write(b"x")
            time.sleep(0.1)

    def pours(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b"x" * 65536)

    site.answers |= {"/drips": drips, "/pours": pours}
    site.answers["/bomb"] = lambda h: send(h, gzip.compress(b"x" * 50_000_000), 200, {"Content-Encoding": "gzip"})
    site.answers["/short"] = lambda h: send(h, b"", 200, {"Content-Length": "10"})
    began = time.monotonic()
    late = get(tmp_path, site.url("/drips"), {"timeout": 0.5}, **ANY)
    assert isinstance(late, http.HttpError) and "within 0.5 s" in str(late)
    for path in ("/pours", "/bomb"):
        error = get(tmp_path, site.url(path), {"limit": 1_000_000}, **ANY)
        assert isinstance(error, http.HttpError) and "more than limit=1000000 bytes" in str(error)
    assert isinstance(get(tmp_path, site.url("/short"), **ANY), http.HttpError)
    assert time.monotonic() - began < 20


def test_a_host_that_is_not_there_is_an_error_that_says_so(tmp_path: Path, lookups: dict[str, list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    error = get(tmp_path, f"http://127.0.0.1:{port}/", **ANY)
    assert isinstance(error, http.HttpError) and "can't be fetched" in str(error)
    assert isinstance(get(tmp_path, "http://nowhere.invalid/", **ANY), http.HttpError)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl is not installed")
def test_a_certificate_is_checked_against_the_name(
    tmp_path: Path, lookups: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=right.example"
    words += " -addext subjectAltName=DNS:right.example"
    command = [*words.split(), "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    site = Site(context)
    trusting = ssl.create_default_context(cafile=str(certificate))
    monkeypatch.setattr(http, "_certificates", lambda: trusting)
    lookups |= {"right.example": ["127.0.0.1"], "wrong.example": ["127.0.0.1"]}
    try:
        assert get(tmp_path, f"https://right.example:{site.port}/", **ANY).text == "hello"
        error = get(tmp_path, f"https://wrong.example:{site.port}/", **ANY)
        assert isinstance(error, http.HttpError) and "certificate" in str(error)
    finally:
        site.server.shutdown()
        site.server.server_close()


# --- in the journal -------------------------------------------------------------------------------------------------


def test_decisions_stand_in_the_journal(site: Site, other: Site, tmp_path: Path, lookups: dict[str, list[str]]) -> None:
    lookups["a.example"] = ["127.0.0.1"]
    site.redirects("/out", other.url("/in"))

    async def use(runtime: weft.Runtime) -> Any:
        run = await runtime.start(does, site.url("/out", host="a.example"), {})
        await run
        return await runtime.recovery.records(run.id)

    records = drive(str(tmp_path / "journal.db"), use, policy=weft.Policy(allow=("net:a.example",)))
    assert [(r.resource, r.verdict) for r in records if isinstance(r, Decision)] == [
        (f"a.example:{site.port}", "allow"), (f"127.0.0.1:{site.port} a.example", "allow"),
        (f"127.0.0.1:{other.port}", "deny"),
    ]  # fmt: skip
    (outcome,) = (r for r in records if isinstance(r, Outcome))
    assert outcome.name == "http.fetch" and not outcome.ok and json.dumps(outcome.by)
