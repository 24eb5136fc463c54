"""Replies kept by what was asked: between processes, within a size, through damage."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.core.content import Blob, Citation, Text, ToolCall, ToolSpec
from weft.model.cache import Replies, key_of, replies_dir
from weft.model.message import Message, Reasoning
from weft.model.request import Likely, Reply, Request, Usage


def request(text: str = "hello", **more: Any) -> Request:
    return Request(messages=[Message("user", text)], **more)


def reply(text: str = "hi", **more: Any) -> Reply:
    return Reply(message=Message("assistant", text), **more)


KEY = key_of("openai:gpt-5", request())


# --- keys ------------------------------------------------------------------------------------------------------------


def test_a_key_tells_apart_all_that_decides_an_answer() -> None:
    tool = ToolSpec("search", "Find", {"type": "object", "properties": {"q": {"type": "string"}}})
    different = [
        ("openai:gpt-5", request()),
        ("openai:gpt-5-mini", request()),
        ("openai:gpt-5", request("hello ")),
        ("openai:gpt-5", request(seed=1)),
        ("openai:gpt-5", request(seed=0)),
        ("openai:gpt-5", request(temperature=0.0)),
        ("openai:gpt-5", request(tools=[tool])),
        ("openai:gpt-5", request(tools=[tool], tool_choice="required")),
        ("openai:gpt-5", request(schema={"type": "string"})),
        ("openai:gpt-5", request(extra={"service_tier": "flex"})),
        ("openai:gpt-5", Request(messages=[Message("system", "hello")])),
        ("openai:gpt-5", Request(messages=[Message("user", ["hello", Blob.of(b"\0png", "image/png")])])),
    ]
    assert len({key_of(*one) for one in different}) == len(different)


def test_order_of_keys_and_patience_are_no_part_of_the_question() -> None:
    one = request(schema={"type": "object", "properties": {"a": {}, "b": {}}}, timeout=1.0)
    other = request(schema={"properties": {"b": {}, "a": {}}, "type": "object"}, timeout=99.0)
    assert key_of("m", one) == key_of("m", other)


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_what_was_put_is_got_by_any_process(tmp_path: Path) -> None:
    full = Reply(
        message=Message(
            "assistant",
            [
                Reasoning(content="hm", signature="seal"),
                Text(content="see", citations=(Citation(url="https://example.org", start=0, end=3),)),
                ToolCall(id="1", name="f", arguments={"a": [1, None, {"b": "ü"}]}),
                Blob.of(b"\x89PNG", "image/png"),
            ],
        ),
        finish="tool_call",
        usage=Usage(5, 6, 1, 2, 3),
        money=0.01,
        model="gpt-5-2025",
        logprobs=(Likely("a", -0.5, (("a", -0.5), ("b", -1.0))),),
        lost=("seed",),
    )
    assert Replies(tmp_path).get(KEY) is None
    assert Replies(tmp_path).put(KEY, full)
    assert Replies(tmp_path).get(KEY) == full
    code = f"from weft.model.cache import *; print(Replies(Path({str(tmp_path)!r})).get({KEY!r}).text)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "see\n"


def test_the_last_one_put_counts(tmp_path: Path) -> None:
    replies = Replies(tmp_path)
    assert replies.put(KEY, reply("first")) and replies.put(KEY, reply("second"))
    assert replies.get(KEY) == reply("second")


def test_neither_the_question_nor_its_words_are_on_the_disk_and_nobody_else_may_read(tmp_path: Path) -> None:
    Replies(tmp_path / "cache").put(key_of("openai:gpt-5", request("a private question")), reply())
    (file,) = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert b"private" not in file.read_bytes() and "private" not in str(file)
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("value", ["sk-a-very-secret-key", 'with "quotes" and \\ in it', "with blanks in it "])
def test_a_reply_with_a_secret_in_it_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("SOME_API_KEY", value)
    replies = Replies(tmp_path)
    call = ToolCall(id="1", name="login", arguments={"nested": [{"key": f"it is {value}"}]})
    assert not replies.put(KEY, Reply(message=Message("assistant", [call])))
    assert not replies.put(KEY, reply(f"the key is {value}!"))
    assert replies.get(KEY) is None and not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert replies.put(KEY, reply("no key"))


def test_the_folder_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEFT_CACHE", "~/elsewhere")
    assert replies_dir() == Path.home() / "elsewhere" == Replies().folder
    monkeypatch.delenv("WEFT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert replies_dir() == Path("/var/cache/me/weft/replies")


# --- within a size ---------------------------------------------------------------------------------------------------


def keys(count: int) -> list[str]:
    return [key_of("m", request(str(number))) for number in range(count)]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_the_ones_unused_for_longest_go_first(tmp_path: Path) -> None:
    most = 100_000
    replies = Replies(tmp_path, most=most)
    first, *rest = keys(60)
    replies.put(first, reply("f" * 5000))
    for number, key in enumerate(rest):
        os.utime(replies._path(first), ns=(0, number * 2 + 1))
        assert replies.put(key, reply("x" * 5000))
        os.utime(replies._path(key), ns=(0, number * 2))
        assert size(tmp_path) <= most * 17 / 16 + 5100
    assert replies.get(first) is not None and replies.get(rest[0]) is None
    assert replies.get(rest[-1]) is not None


def test_getting_one_is_using_it(tmp_path: Path) -> None:
    replies = Replies(tmp_path)
    replies.put(KEY, reply())
    os.utime(replies._path(KEY), ns=(0, 0))
    replies.get(KEY)
    assert replies._path(KEY).stat().st_mtime_ns > 10**18


def test_a_reply_that_would_push_out_all_others_is_not_kept(tmp_path: Path) -> None:
    replies = Replies(tmp_path, most=16_000)
    assert replies.put(KEY, reply("small"))
    assert not replies.put(keys(1)[0], reply("x" * 2000))
    assert replies.get(KEY) is not None


def test_what_a_dead_process_left_half_written_goes(tmp_path: Path) -> None:
    replies = Replies(tmp_path)
    replies.put(KEY, reply())
    old, new = (replies._path(KEY).with_suffix(f".{name}") for name in ("0123", "4567"))
    old.write_bytes(b"half")
    os.utime(old, (0, 0))
    new.write_bytes(b"being written")
    Replies(tmp_path).put(KEY, reply())
    assert not old.exists() and new.exists() and replies.get(KEY) == reply()


WRITER = """
import sys
from pathlib import Path
from weft.model.cache import *
from weft.model.message import Message
folder, name = sys.argv[1:]
replies = Replies(Path(folder), most=200_000)
found = 0
for turn in range(6):
    for number in range(40):
        key = key_of("m", Request(messages=[Message("user", str(number))]))
        reply = replies.get(key)
        if reply is not None:
            found += 1
            words = reply.text.split()
            assert words[0] == str(number) and len(words) == 901 and len(set(words[1:])) == 1, reply.text[:80]
        assert replies.put(key, Reply(message=Message("assistant", f"{number} " + f"{name} " * 900)))
print(found)
"""


def test_two_processes_share_a_folder_and_never_see_half_a_reply(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    both = [subprocess.Popen([*command, name], stdout=subprocess.PIPE, text=True) for name in ("one", "other")]
    found = [int(process.communicate(timeout=60)[0]) for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sum(found) > 50 and size(tmp_path) <= 200_000 * (1 + 2 / 16) + 5000


# --- damage ----------------------------------------------------------------------------------------------------------


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_a_damaged_file_is_a_reply_not_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    replies = Replies(tmp_path_factory.mktemp("cache"))
    replies.put(KEY, reply("the words of the answer", usage=Usage(1, 2)))
    path = replies._path(KEY)
    whole = path.read_bytes()
    damage = data.draw(st.sampled_from(["cut", "flip", "insert", "replace"]))
    at = data.draw(st.integers(0, len(whole) - 1))
    if damage == "cut":
        path.write_bytes(whole[:at])
    elif damage == "flip":
        path.write_bytes(whole[:at] + bytes([whole[at] ^ data.draw(st.integers(1, 255))]) + whole[at + 1 :])
    elif damage == "insert":
        path.write_bytes(whole[:at] + data.draw(st.binary(min_size=1, max_size=9)) + whole[at:])
    else:
        path.write_bytes(data.draw(st.binary(max_size=200)))
    assert replies.get(KEY) is None
    assert not path.exists()
    assert replies.put(KEY, reply()) and replies.get(KEY) == reply()


json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(text=st.text(), arguments=st.dictionaries(st.text(), json, max_size=3), data=json)
@settings(max_examples=60, deadline=None)
def test_any_reply_comes_back_equal(
    tmp_path_factory: pytest.TempPathFactory, text: str, arguments: dict[str, Any], data: Any
) -> None:
    replies = Replies(tmp_path_factory.mktemp("cache"))
    full = Reply(message=Message("assistant", [text, ToolCall(id="1", name="f", arguments=arguments)]), data=data)
    assert replies.put(KEY, full)
    assert replies.get(KEY) == full


def test_a_file_of_another_form_is_a_reply_not_found(tmp_path: Path) -> None:
    import hashlib

    from weft.model.cache import _MAGIC

    replies = Replies(tmp_path)
    replies.put(KEY, reply())
    body = msgspec.msgpack.encode({"message": 3})
    replies._path(KEY).write_bytes(_MAGIC + hashlib.blake2b(body, digest_size=16).digest() + body)
    assert replies.get(KEY) is None


def test_a_folder_that_can_not_be_used_is_no_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    replies = Replies(tmp_path / "file" / "cache")
    assert replies.get(KEY) is None and not replies.put(KEY, reply())
    assert "was not kept in" in caplog.text


def test_what_has_no_stored_form_is_not_kept(tmp_path: Path) -> None:
    assert not Replies(tmp_path).put(KEY, reply(data=object()))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("key", ["", "x", "../../../etc/passwd", "A" * 64, "a" * 63 + "/"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, key: str) -> None:
    with pytest.raises(ValueError, match="no key of a reply"):
        Replies(tmp_path).get(key)
