"""Secrets are named, never stored; the redactor lets none of their bytes through."""

from __future__ import annotations

import dataclasses
import json
import uuid
from decimal import Decimal
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.core.codec import decode, decode_args, encode, encode_args, to_plain
from weft.core.errors import SecretUnset
from weft.core.secret import Redactor, Secret, secret

KEY = 'hunter2-"é\n!'
ENVIRONMENT = {"API_KEY": KEY, "DB_PASSWORD": "0123456789abcdef"}


@dataclasses.dataclass
class Login:
    user: str
    password: Any


def test_a_handle_is_stored_and_shown_by_name_only(monkeypatch: pytest.MonkeyPatch) -> None:
    handle = secret("demo", env="WEFT_TEST_DEMO")
    monkeypatch.delenv("WEFT_TEST_DEMO", raising=False)
    with pytest.raises(SecretUnset, match="WEFT_TEST_DEMO"):
        handle.reveal()
    monkeypatch.setenv("WEFT_TEST_DEMO", "correct horse")
    assert handle.reveal() == "correct horse"
    back = decode(encode({"token": handle}))["token"]
    assert back == handle and type(back) is Secret and back.reveal() == "correct horse"
    for shown in (repr(handle), str(handle), f"{handle}", encode(handle), str(to_plain(handle))):
        assert "correct horse" not in str(shown) and "demo" in str(shown)


def test_a_secret_is_known_from_its_declaration_or_its_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    redactor = Redactor()
    data = encode("say swordfish77 and blue-moon-9")
    assert redactor.redact(data) is None
    monkeypatch.setenv("WEFT_TEST_LATE", "swordfish77")
    assert redactor.redact(data) is None
    late = secret("late", env="WEFT_TEST_LATE")
    assert decode(redactor.redact(data) or b"") == "say [secret:late] and blue-moon-9"
    monkeypatch.setenv("WEFT_TEST_LATE", "blue-moon-9")
    assert late.reveal() == "blue-moon-9"
    assert decode(redactor.redact(data) or b"").count("[secret:late]") >= 1
    assert b"blue-moon-9" not in (redactor.redact(data) or b"blue-moon-9")
    monkeypatch.delenv("WEFT_TEST_LATE")
    redactor.refresh()
    assert redactor.redact_text("blue-moon-9") == "[secret:late]"


def test_a_changed_environment_is_seen_on_refresh() -> None:
    environment: dict[str, str] = {}
    redactor = Redactor(environment)
    assert redactor.redact(encode("abcdefgh1")) is None
    environment["MY_TOKEN"] = "abcdefgh1"
    redactor.refresh()
    assert decode(redactor.redact(encode("abcdefgh1")) or b"") == "[secret:MY_TOKEN]"


@pytest.mark.parametrize(
    ("name", "is_secret"),
    [("OPENAI_API_KEY", True), ("apikey", True), ("AWS_SECRET_ACCESS_KEY", True), ("GITHUB_TOKEN", True),
     ("PGPASSWORD", True), ("MYSQL_PWD", True), ("SSH_PRIVATE_KEY", True), ("GOOGLE_CREDENTIALS", True),
     ("PWD", False), ("OLDPWD", False), ("PATH", False), ("TOKENIZERS_PARALLELISM", False), ("KEYBOARD", False)],
)  # fmt: skip
def test_which_names_look_secret(name: str, is_secret: bool) -> None:
    text = "a value of some length"
    assert (Redactor({name: text}).redact_text(text) != text) is is_secret
    assert Redactor({name: "true"}).redact(encode("true")) is None


def test_a_value_keeps_its_shape() -> None:
    redactor = Redactor(ENVIRONMENT)
    args = (Login("me", KEY), {"url": f"https://x/?k={quote(KEY, safe='')}"}, {KEY: 1, (1, KEY): (KEY.encode(),)})
    data = redactor.redact(encode_args(args, {"body": json.dumps({"k": KEY}), "n": 1}, "f"))
    assert data is not None
    assert decode_args(data) == (
        (
            Login("me", "[secret:API_KEY]"),
            {"url": "https://x/?k=[secret:API_KEY]"},
            {"[secret:API_KEY]": 1, (1, "[secret:API_KEY]"): (b"[secret:API_KEY]",)},
        ),
        {"body": '{"k": "[secret:API_KEY]"}', "n": 1},
    )
    error = decode(redactor.redact(encode(ValueError(f"bad key {KEY}"))) or b"")
    assert type(error) is ValueError and str(error) == "bad key [secret:API_KEY]"
    assert redactor.redact_text(f"<{KEY}>") == "<[secret:API_KEY]>"


def test_what_cannot_hold_a_label_becomes_one() -> None:
    redactor = Redactor({"A_TOKEN": "12345678", "B_TOKEN": "hunter2hunter2"})
    label = "[secret:A_TOKEN]"
    for value in (Decimal("1234567890"), uuid.UUID(bytes=b"xxxx12345678yyyy"), int.from_bytes(b"12345678"), 2**200):
        data = redactor.redact(encode([value]))
        assert (decode(data) if data else None) == (None if value == 2**200 else [label])
    data = redactor.redact(encode({"spelt": list(b"hunter2hunter2"), "other": [1, 2]}))
    assert decode(data or b"") == {"spelt": "[secret:B_TOKEN]", "other": [1, 2]}


def test_odd_secrets() -> None:
    both = Redactor({"A_TOKEN": "abcdefgh", "B_TOKEN": "abcdefghijkl"})
    assert both.redact_text("abcdefghijkl abcdefgh") == "[secret:B_TOKEN] [secret:A_TOKEN]"
    assert b"[secret:" not in (Redactor({"X_TOKEN": "[secret:"}).redact(encode("a [secret:")) or b"[secret:")
    assert Redactor({"X_TOKEN": "token in file\n"}).redact_text("token in file") == "[secret:X_TOKEN]"
    assert Redactor({}).redact(encode("x")) is None
    assert Redactor({"X_TOKEN": "abcdefgh"}).redact(b"\xc1abcdefgh") == b"\xc1[secret:X_TOKEN]"
    large = Redactor(ENVIRONMENT).redact(encode(["x" * 10**6, KEY, b"y" * 10**6]))
    assert decode(large or b"")[1] == "[secret:API_KEY]"


secrets = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=8, max_size=20)
    | st.text("ab", min_size=8, max_size=9)
    | st.integers(10**8, 10**12).map(str),
    min_size=1,
    max_size=3,
)


@settings(deadline=None, max_examples=300)
@given(secrets, st.data())
def test_no_secret_is_ever_in_what_comes_out(known: list[str], data: st.DataObject) -> None:
    redactor = Redactor({f"T{n}_TOKEN": value for n, value in enumerate(known)})
    word = st.sampled_from(known)
    piece = (
        st.tuples(st.text(max_size=3), word, st.text(max_size=3)).map("".join)
        | word.map(str.encode)
        | word.map(lambda w: list(w.encode()))
        | word.map(json.dumps)
        | st.integers()
        | st.tuples(word, word).map("".join)
    )
    value = data.draw(
        st.recursive(
            piece,
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.lists(inner, max_size=3).map(tuple)
                | st.dictionaries(word | st.text(max_size=2), inner, max_size=2)
                | st.builds(Login, st.text(max_size=2), inner)
                | st.lists(word, max_size=2).map(lambda w: ValueError(*w))
            ),
            max_leaves=6,
        )
    )
    encoded = encode(value)
    clean = redactor.redact(encoded)
    needles = {form.encode() for v in known for form in (v, json.dumps(v)[1:-1])}
    if clean is None:
        assert not any(needle in encoded for needle in needles)
        return
    assert not any(needle in clean for needle in needles)
    msgspec.msgpack.decode(clean)
    decode(clean)
    text = redactor.redact_text("<" + "".join(known) + ">")
    assert not any(v in text for v in known)
