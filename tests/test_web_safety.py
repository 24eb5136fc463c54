"""Who may ask the page: names, tokens, cookies, changes from elsewhere, read-only; over real HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import weft
from tests.programs import drive
from tests.servers.page import CHANGE, Client, page
from weft.core.errors import BadInput
from weft.web.page.safety import SESSION, Access

TOKEN = "correct-horse-battery-staple"


@weft.workflow
async def idle() -> int:
    return 1


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> str:
    found = str(tmp_path_factory.mktemp("safety") / "journal.db")
    drive(found, lambda runtime: runtime.run(idle))
    return found


@pytest.fixture(scope="module")
def at_home(place: str) -> Iterator[Client]:
    with page(place) as client:
        yield client


@pytest.fixture(scope="module")
def locked(place: str) -> Iterator[Client]:
    with page(place, Access.at("127.0.0.1", TOKEN, ("weft.example",))) as client:
        yield client


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost.evil", "[::2]"])
def test_a_name_that_is_not_this_machines_gets_nothing(at_home: Client, host: str) -> None:
    for path in ("/", "/static/index.html", "/api/about", "/api/runs"):
        status, _, body = at_home.ask("GET", path, Host=host)
        assert status == 421 and json.loads(body)["error"]["code"] == "wrong_host"


@pytest.mark.parametrize("host", ["localhost:80", "127.0.0.1", "[::1]:9", "LOCALHOST"])
def test_names_of_this_machine_are_answered(at_home: Client, host: str) -> None:
    assert at_home.ask("GET", "/api/runs", Host=host)[0] == 200


def test_with_a_token_its_names_are_answered_too(locked: Client) -> None:
    assert locked.ask("GET", "/api/about", Host="weft.example:8484")[0] == 200
    assert locked.ask("GET", "/api/about", Host="10.0.0.1")[0] == 200
    assert locked.ask("GET", "/api/about", Host="evil.example")[0] == 421


def test_every_answer_forbids_what_a_page_does_not_need(at_home: Client) -> None:
    for path in ("/", "/runs/x", "/static/index.html", "/api/runs", "/api/nothing"):
        _, headers, _ = at_home.ask("GET", path)
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
    assert at_home.ask("GET", "/api/runs")[1]["cache-control"] == "no-store"


def test_without_the_token_there_is_no_data(locked: Client) -> None:
    for path in ("/api/runs", "/api/live", "/api/inbox", "/api/effects/x:1", "/api/runs/x/rows", "/api/nothing"):
        assert locked.get(path)["status"] == 401
    about = locked.get("/api/about")
    assert about["token_needed"] and not about["signed_in"] and about["store"] is None
    assert locked.ask("GET", "/")[0] == 200
    wrong = locked.get("/api/runs", Authorization=f"Bearer {TOKEN}x")
    assert (wrong["status"], wrong["error"]["code"]) == (401, "token_wrong")
    assert locked.get(f"/api/runs?token={TOKEN}")["status"] == 401  # never in an address
    assert locked.get("/api/runs", Authorization=f"Bearer {TOKEN}")["items"]


def test_a_token_becomes_a_cookie_that_only_this_site_sends(locked: Client) -> None:
    assert locked.post("/api/session", {"token": "wrong"})["status"] == 401
    assert locked.post("/api/session", {"token": 5})["status"] == 401
    status, headers, _ = locked.ask("POST", "/api/session", {"token": TOKEN}, **CHANGE)
    cookie = headers["set-cookie"]
    assert status == 204 and "HttpOnly" in cookie and "SameSite=strict" in cookie and TOKEN not in cookie
    held = cookie.partition(";")[0]
    assert locked.get("/api/runs", Cookie=held)["items"]
    assert locked.get("/api/about", Cookie=held)["signed_in"]
    assert locked.get("/api/runs", Cookie=held[:-1] + ("0" if held[-1] != "0" else "1"))["status"] == 401
    assert locked.get("/api/runs", Cookie="weft_session=9999999999.00")["status"] == 401
    assert locked.get("/api/runs", Cookie="weft_session=1.00; weft_session=x")["status"] == 401
    _, headers, _ = locked.ask("DELETE", "/api/session", **CHANGE)
    assert "Max-Age=0" in headers["set-cookie"]


def test_a_cookie_grows_old() -> None:
    access = Access.at("127.0.0.1", TOKEN)

    def knows(now: float) -> bool | None:
        from starlette.datastructures import Headers

        return access.knows(Headers({"cookie": f"weft_session={access.session(1000.0)}"}), now)

    assert knows(1000.0 + SESSION) is True and knows(1001.0 + SESSION) is None


@pytest.mark.parametrize(
    ("headers", "status", "code"),
    [
        ({"Content-Type": "application/json"}, 403, "csrf"),
        ({**CHANGE, "X-Weft": "2"}, 403, "csrf"),
        ({**CHANGE, "Origin": "http://evil.example"}, 403, "csrf"),
        ({**CHANGE, "Origin": "null"}, 403, "csrf"),
        ({**CHANGE, "Sec-Fetch-Site": "cross-site"}, 403, "csrf"),
        ({**CHANGE, "Sec-Fetch-Site": "same-site"}, 403, "csrf"),
        ({"X-Weft": "1", "Content-Type": "text/plain"}, 415, "not_json"),
        ({"X-Weft": "1", "Content-Type": "application/x-www-form-urlencoded"}, 415, "not_json"),
    ],
)
def test_a_change_from_elsewhere_is_refused(at_home: Client, headers: dict[str, str], status: int, code: str) -> None:
    found = at_home.ask("POST", "/api/runs/x/cancel", {}, **headers)
    assert (found[0], json.loads(found[2])["error"]["code"]) == (status, code)


@pytest.mark.parametrize("path", ["/api/runs", "/api/about", "/api/live", "/api/runs/x/template"])
def test_the_page_of_another_site_reads_nothing(at_home: Client, path: str) -> None:
    for site in ("cross-site", "same-site", "new-word"):
        assert at_home.get(path, Sec_Fetch_Site=site)["error"]["code"] == "csrf"
    assert at_home.ask("GET", "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link to here


def test_a_change_from_the_page_itself_is_heard(at_home: Client) -> None:
    found = at_home.post("/api/runs/nobody/cancel", {}, Origin=at_home.address, Sec_Fetch_Site="same-origin")
    assert found["error"]["code"] == "unknown_run"


@pytest.mark.parametrize(
    "path",
    ["/api/inbox/x/answer", "/api/runs/x/cancel", "/api/runs/x/resume", "/api/runs/x/signal", "/api/runs/x/send",
     "/api/runs/x/fork"],
)  # fmt: skip
def test_read_only_means_all_actions(place: str, path: str) -> None:
    with page(place, Access.at("127.0.0.1", read_only=True)) as client:
        assert client.post(path, {})["error"]["code"] == "read_only"
        assert client.get("/api/about")["read_only"] is True


def test_bodies_are_bounded_and_must_be_objects(at_home: Client) -> None:
    for body, status in ((b"x" * (1 << 21), 413), (b"[]", 400), (b"{", 400), (b"\xff", 400), (b"[" * 100_000, 400)):
        assert at_home.ask("POST", "/api/inbox/x/answer", body, **CHANGE)[0] in (404, status)
        assert at_home.ask("POST", "/api/session", body, **CHANGE)[0] == status


def test_files_outside_are_not_served(at_home: Client) -> None:
    for path in (
        "/static/../page/app.py",
        "/static/%2e%2e/page/app.py",
        "/static//etc/passwd",
        "/static/..%2fpage/app.py",
    ):
        assert at_home.ask("GET", path)[0] == 404
    assert at_home.ask("PUT", "/api/runs", {}, **CHANGE)[0] == 405


def test_a_server_that_others_reach_has_a_token() -> None:
    assert Access.at("127.0.0.1").token == Access.at("::1").token == Access.at("localhost").token == ""
    made = Access.at("0.0.0.0")
    assert len(made.token) >= 32 and made.token != Access.at("0.0.0.0").token
    for bad in ("short", "with space in the middle", "semi;colon-semi;colon", "ünïcode-ünïcode-ünïcode"):
        with pytest.raises(BadInput, match="one word of ASCII"):
            Access.at("127.0.0.1", bad)


def test_paths_of_views_are_all_the_one_page(at_home: Client, place: str) -> None:
    index = at_home.ask("GET", "/")[2]
    assert b"<title>" in index and at_home.ask("GET", "/runs/abc?x=1")[2] == index
    assert Path(place).name.encode() not in index
