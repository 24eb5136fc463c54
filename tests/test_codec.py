"""The codec on every kind of value it promises, on what it must refuse, and on damaged and doctored bytes."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import copy
import dataclasses
import enum
import functools
import json
import math
import socket
import subprocess
import sys
import threading
import uuid
from datetime import UTC, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, Generic, NamedTuple, TypeVar
from zoneinfo import ZoneInfo

import msgspec
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext

from weft.core import classes
from weft.core.codec import (
    bind_plain,
    decode,
    decode_args,
    decode_plain,
    encode,
    encode_args,
    from_plain,
    module_name,
    resolve,
    to_plain,
    traceback_text,
)
from weft.core.content import ToolCall
from weft.core.errors import BadInput, NotStorable, RemoteError, StoreCorrupt, UnknownType
from weft.model.message import Message

T = TypeVar("T")
pack = msgspec.msgpack.encode


@dataclasses.dataclass
class Point:
    x: Any
    y: Any = 0


@dataclasses.dataclass(frozen=True, slots=True)
class Frozen:
    items: tuple[Any, ...]
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "total", self.total + len(self.items))


@dataclasses.dataclass
class Counting:
    """Its __post_init__ must not run again, and it has an attribute that is no field and a cached property."""

    n: int
    later: int = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.n += 1
        self.note = "made"

    @functools.cached_property
    def doubled(self) -> int:
        return self.n * 2


@dataclasses.dataclass
class Box(Generic[T]):
    content: T


class Colour(enum.Enum):
    RED = 1
    GREEN = "green"
    DEEP = (1, 2)


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Word(enum.StrEnum):
    A = "a"


class Right(enum.Flag):
    READ = 1
    WRITE = 2
    RUN = 4


class Pair(NamedTuple):
    left: Any
    right: Any = None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    id: int
    lines: list[Any] = []


class Total(msgspec.Struct):
    n: int

    def __post_init__(self) -> None:
        self.n += 1


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    when: datetime | None = None
    parts: tuple[Any, ...] = ()
    _hidden: int = pydantic.PrivateAttr(default=3)


class Page(pydantic.BaseModel, Generic[T]):
    items: list[T]


IntPage = Page[int]


class Refused(Exception):
    def __init__(self, code: int, *, hint: str) -> None:
        super().__init__(f"refused with {code}")
        self.code = code
        self.hint = hint


class Stubborn(Exception):
    def __str__(self) -> str:
        return f"needs {self.__dict__['lock']}"


class Plain:
    pass


class Lowered(str):
    pass


def same(left: Any, right: Any) -> bool:
    """Equal in value and type, all the way down."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return (left == right and math.copysign(1, left) == math.copysign(1, right)) or left != left != right
    if isinstance(left, Decimal):
        return str(left) == str(right)
    if isinstance(left, dict):
        return len(left) == len(right) and all(
            same(k, q) and same(v, w) for (k, v), (q, w) in zip(left.items(), right.items(), strict=True)
        )
    if isinstance(left, list | tuple | collections.deque):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, set | frozenset):
        return bool(left == right) and {type(v) for v in left} == {type(v) for v in right}
    if dataclasses.is_dataclass(left):
        return all(same(getattr(left, f.name, None), getattr(right, f.name, None)) for f in dataclasses.fields(left))
    if isinstance(left, datetime | time):
        return left == right and left.fold == right.fold and str(left.tzinfo) == str(right.tzinfo)
    return bool(left == right)


zones = st.sampled_from([None, UTC, timezone(timedelta(hours=-5, minutes=30)), ZoneInfo("Europe/Berlin")])
whole = st.integers() | st.integers(min_value=-(2**80), max_value=2**80)
text = st.text() | st.text(alphabet=st.characters(), max_size=3)
hashable = (
    st.none() | st.booleans() | whole | st.floats(allow_nan=False) | text | st.binary(max_size=40)
    | st.dates() | st.times(timezones=st.sampled_from([None, UTC])) | st.timedeltas() | st.uuids()
    | st.datetimes(timezones=zones, min_value=datetime(1950, 1, 1))
    | st.decimals(allow_nan=False) | st.sampled_from([*Colour, *Level, *Word, Right.READ, Right.READ | Right.RUN])
    | st.sampled_from([Path("a/b"), PurePosixPath("/x"), PureWindowsPath("C:/y"), ..., range(2, 9, 3)])
)  # fmt: skip
scalars = hashable | st.floats() | st.just(Right(0)) | st.complex_numbers(allow_nan=False) | st.just(Decimal("sNaN"))
keys = hashable | st.tuples(hashable, hashable) | st.frozensets(whole, max_size=3)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.sets(keys, max_size=4)
        | st.frozensets(keys, max_size=4)
        | st.dictionaries(text, inner, max_size=4)
        | st.dictionaries(keys, inner, max_size=4)
        | st.builds(Point, inner, inner)
        | st.builds(Box, inner)
        | st.builds(lambda v: Frozen(tuple(v)), st.lists(inner, max_size=3))
        | st.builds(Pair, inner, inner)
        | st.builds(lambda v: collections.deque(v, maxlen=9), st.lists(inner, max_size=3))
        | st.builds(lambda v: bytearray(v), st.binary(max_size=9))
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=300)
@given(values)
def test_values_come_back_with_value_and_type(value: Any) -> None:
    data = encode(value)
    assert same(decode(data), value)
    assert encode(decode(data)) == data


@settings(deadline=None, max_examples=150)
@given(st.lists(values, max_size=3).map(tuple), st.dictionaries(st.sampled_from(["a", "b", "*"]), values))
def test_arguments_come_back(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    back = decode_args(encode_args(args, kwargs, "f"))
    assert same(back[0], args) and same(back[1], kwargs)


@settings(deadline=None, max_examples=150)
@given(values)
def test_display_is_json_and_needs_no_class(value: Any) -> None:
    json.dumps(to_plain(value), allow_nan=True)
    assert str(decode_plain(encode(value))) == str(to_plain(value))


@settings(deadline=None, max_examples=300)
@given(values, st.integers(min_value=0), st.integers(0, 255))
def test_damaged_bytes_never_raise_anything_of_their_own(value: Any, at: int, byte: int) -> None:
    data = bytearray(encode(value))
    data[at % len(data)] = byte
    for damaged in (bytes(data), bytes(data[: at % len(data)])):
        with contextlib.suppress(StoreCorrupt, UnknownType):
            decode(damaged)


@pytest.mark.parametrize(
    "value",
    [
        2**64 - 1, 2**64, -(2**63), -(2**63) - 1, [1, [2**70]], {"a": "\ud800", "\udfff": 2**65},
        collections.OrderedDict(a=1, b=(2,)), collections.Counter("hello"),
        collections.defaultdict(list, {"a": [1]}), collections.defaultdict(None, {(1,): 2}),
        {1: "a", None: 2, 1.5: 3, b"k": 4, True and 2: 5}, {(1, "a"): {frozenset([1]): 2}},
        datetime(2024, 10, 27, 2, 30, fold=1), datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Paris"), fold=1),
        time(1, 2, tzinfo=timezone(timedelta(seconds=3661))), NotImplemented, msgspec.UNSET, Path("/tmp/\udcff"),
        Order(id=1, lines=[(1, 2)]), Total(3), [Pair(1)], Level.HIGH, {Level.HIGH: Word.A},
    ],
)  # fmt: skip
def test_edge_values(value: Any) -> None:
    back = decode(encode(value))
    assert same(back, value)
    if isinstance(value, collections.defaultdict):
        assert back.default_factory is value.default_factory


def test_sets_have_one_encoding_in_every_process() -> None:
    code = "from weft.core.codec import encode; print(encode({'a', 'b', 'c', (1, 2), None}).hex())"
    runs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in "123"
    }
    assert len(runs) == 1


def test_a_dataclass_comes_back_without_running_its_code() -> None:
    value = Counting(1)
    assert value.doubled == 4
    back = decode(encode(value))
    assert (back.n, back.note, "later" in vars(back), "doubled" in vars(back)) == (2, "made", False, False)


def test_pydantic_models_keep_extras_private_parts_and_what_was_set() -> None:
    model = Model(name="a", parts=(1, (2,)), other={"k": (1,)})  # type: ignore[call-arg]
    model._hidden = 9
    back = decode(encode([model, IntPage(items=[1])]))
    assert back[0] == model and back[0]._hidden == 9 and back[0].model_fields_set == {"name", "parts", "other"}
    assert back[1] == IntPage(items=[1]) and type(back[1]) is IntPage


def test_large_values() -> None:
    numbers, blob = list(range(1_000_000)), bytes(100_000_000)
    assert decode(encode(numbers)) == numbers
    assert decode(encode(Point(blob))).x == blob


# --- what changes between storing and reading -------------------------------------------------------------


def test_what_is_packed_once_gives_the_same_bytes_each_time() -> None:
    def said(word: str) -> list[Message]:
        return [Message("user", word), Message("assistant", [ToolCall(id="1", name="f", arguments={"n": 2**70})])]

    for word in ("short", "x" * 100_000, "lone \udc80"):
        kept = said(word)
        first = encode(kept)
        assert encode(kept) == first == encode(said(word)) == encode(copy.deepcopy(kept))
        assert encode([kept[0], Message("user", word)]) == encode([said(word)[0], said(word)[0]])
        assert decode(first) == kept
    changed = msgspec.structs.replace(kept[0], name="Ann")
    assert decode(encode(changed)) == changed != kept[0]
    (call,) = kept[1].calls
    assert isinstance(call.arguments, dict)
    call.arguments["n"] = 1  # a guard that takes something out, say
    assert decode(encode(kept)) == kept


def test_classes_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    point, pair, colour = encode(Point(1, 2)), encode(Pair(1, 2)), encode(Colour.DEEP)
    module = sys.modules[__name__]

    @dataclasses.dataclass
    class Wider:
        x: Any
        z: list[Any] = dataclasses.field(default_factory=list)

    monkeypatch.setattr(module, "Point", Wider)
    assert decode(point) == Wider(1, [])

    @dataclasses.dataclass
    class Stricter:
        x: Any
        z: Any

    monkeypatch.setattr(module, "Point", Stricter)
    with pytest.raises(UnknownType, match="'z'"):
        decode(point)
    monkeypatch.setattr(module, "Point", Plain)
    with pytest.raises(UnknownType, match="test_codec:Point is not a dataclass any more"):
        decode(point)
    monkeypatch.delattr(module, "Point")
    with pytest.raises(UnknownType, match="test_codec:Point is not in the code at hand"):
        decode(point)
    assert decode_plain(point) == {"x": 1, "y": 2}
    order, total = encode(Order(id=1)), encode(Total(1))

    class Longer(msgspec.Struct, kw_only=True):
        id: int
        notes: list[Any] = []
        extra: int = 3
        must: int

    monkeypatch.setattr(module, "Order", Longer)
    monkeypatch.setattr(module, "Total", Order)
    for data, field in [(order, "must"), (total, "id")]:
        with pytest.raises(UnknownType, match=repr(field)):
            decode(data)
    monkeypatch.setattr(module, "Pair", collections.namedtuple("Pair", "left"))
    with pytest.raises(UnknownType, match="fewer fields"):
        decode(pair)
    monkeypatch.setattr(module, "Colour", enum.Enum("Colour", "RED"))
    with pytest.raises(UnknownType, match="no member 'DEEP'"):
        decode(colour)


@pytest.mark.parametrize("code", [classes.DATACLASS, classes.STRUCT, classes.ENUM, classes.NAMEDTUPLE, 40])
@pytest.mark.parametrize("name", ["os:system", "builtins:exec"])
def test_a_doctored_name_is_refused(code: int, name: str) -> None:
    content: Any = {"type": name, "message": "", "args": ["touch x"], "traceback": ""} if code == 40 else [name, {}]
    if code == classes.ENUM:
        content = [name, "x", None]
    with pytest.raises(StoreCorrupt, match=name):
        decode(pack(Ext(code, pack(content))))


@pytest.mark.parametrize("code", [classes.DATACLASS, classes.STRUCT, classes.PYDANTIC, classes.NAMEDTUPLE])
def test_a_class_of_another_kind_is_never_instantiated(code: int) -> None:
    content = ["subprocess:Popen", {"args": "touch x"}]
    if code == classes.PYDANTIC:
        content += [[], None, None]
    with pytest.raises(UnknownType, match="subprocess:Popen is not a"):
        decode(pack(Ext(code, pack(content))))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xc1", b"\x92\x01", pack(Ext(99, b"")), pack(Ext(1, b"")), pack(Ext(1, pack(3))), b"\x91" * 9999,
     pack(Ext(32, pack(["nonsense", {}]))), pack(Ext(32, pack([1]))), b"\xa2\xff\xff"],
)  # fmt: skip
def test_damage_is_reported(data: bytes) -> None:
    with pytest.raises((StoreCorrupt, UnknownType)):
        decode(data)
    with pytest.raises((StoreCorrupt, UnknownType)):
        decode_args(data)


def test_arguments_must_be_arguments() -> None:
    with pytest.raises(StoreCorrupt, match="arguments"):
        decode_args(encode("text"))


# --- refusals ----------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Options:
    callbacks: list[Any]


@dataclasses.dataclass
class Callback:
    fn: Any


def test_the_path_leads_to_the_part() -> None:
    options = Options([1, 2, 3, Callback(len)])
    with pytest.raises(NotStorable) as caught:
        encode_args((1,), {"options": options}, "fetch")
    assert str(caught.value) == (
        "fetch(argument 'options').callbacks[3].fn: a function cannot be stored; pass its name instead"
    )
    with pytest.raises(NotStorable) as caught:
        encode_args((1, options), {}, "fetch", ["url", "options"])
    assert caught.value.path == "fetch(argument 'options').callbacks[3].fn"
    with pytest.raises(NotStorable) as caught:
        encode_args((1, options), {}, "fetch")
    assert caught.value.path == "fetch(argument 2).callbacks[3].fn"
    with pytest.raises(NotStorable) as caught:
        encode({"a": [{}, ({"b": Pair(1, Order(id=len))},)]}, "result of f()")  # type: ignore[arg-type]
    assert caught.value.path == "result of f()['a'][1][0]['b'].right.id"
    with pytest.raises(NotStorable) as caught:
        encode([{(1, len): 2}])
    assert caught.value.path == "value[0].keys()[0][1]"
    with pytest.raises(NotStorable) as caught:
        encode(Model(name="x", parts=(Model(name="y", parts=(len,)),)))
    assert caught.value.path == "value.parts[0].parts[0]"


async def nothing() -> None:
    pass


class Meridian(tzinfo):
    def utcoffset(self, when: datetime | None) -> timedelta | None:
        return timedelta(hours=1) if when else None


def test_what_cannot_be_stored_says_what_to_do(tmp_path: Path) -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    coroutine = nothing()
    with socket.socket() as connection, (tmp_path / "f").open("w") as file:
        for value, fix in [
            (lambda: 1, "pass its name"), ("".join, "pass its name"), (functools.partial(len), "pass its name"),
            (Point, "the class Point"), (sys, "the module sys"), (file, "open it inside the step"),
            (connection, "its address"), (threading.Lock(), "create it where it is used"),
            (asyncio.Lock(), "create it where it is used"), (coroutine, "await it first"),
            ((n for n in [1]), "make a list"), ({}.keys(), "make a list"), (map(len, []), "make a list"),
            (memoryview(b""), "bytes(...)"), (Plain(), "make its class a dataclass"), (object(), "a dataclass"),
            (Lowered("a"), "convert it with str(...)"), (Local(1), "top level of its module"),
            (collections.UserDict(), "a dataclass"), (datetime(2024, 1, 1, tzinfo=Meridian()), "zoneinfo"),
            (collections.defaultdict(lambda: 1), "dict(...)"), (type("L", (list,), {})(), "list(...)"),
            (sys.version_info, "tuple(...)"), (dataclasses.make_dataclass("Made", ["x"])(1), "give the class a name"),
        ]:  # fmt: skip
            with pytest.raises(NotStorable) as caught:
                encode([value])
            assert fix in caught.value.reason and caught.value.path == "value[0]"
            assert isinstance(json.dumps(to_plain([value])), str)
    coroutine.close()


def test_cycles_and_depths_are_refused_by_name() -> None:
    loop: list[Any] = [1]
    loop.append({"again": loop})
    with pytest.raises(NotStorable, match="contains itself") as caught:
        encode(loop)
    assert caught.value.path == "value[1]['again']"
    node = Point(1)
    node.y = node
    with pytest.raises(NotStorable, match="contains itself") as caught:
        encode_args((node,), {}, "f")
    assert caught.value.path == "f(argument 1).y"
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(NotStorable, match="nested"):
        encode(deep)
    assert to_plain(loop) == [1, {"again": "…"}]
    nested: Any = 1
    for _ in range(95):
        nested = Point((nested,))
    assert encode(decode(encode(nested))) == encode(nested)


# --- exceptions -----------------------------------------------------------------------------------------------


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_exceptions_come_back_whole() -> None:
    error = Refused(403, hint="log in")
    error.add_note("a note")
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise error from inner
    except Refused as caught:
        back = decode(encode(caught))
    assert type(back) is Refused and back.args == ("refused with 403",) and str(back) == "refused with 403"
    assert (back.code, back.hint, back.__notes__) == (403, "log in", ["a note"])
    assert type(back.__cause__) is KeyError and back.__cause__.args == ("inner",)
    assert "test_exceptions_come_back_whole" in traceback_text(back) and "raise error" in traceback_text(back)
    again = decode(encode(raised(back)))
    assert again.__notes__ == ["a note"] and "test_exceptions_come_back_whole" in traceback_text(again)
    assert "in raised" in traceback_text(again)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(), KeyError("k"), OSError(2, "gone", "file.txt"), FileNotFoundError(2, "No such file", "x"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), StopIteration(3), SystemExit(2), KeyboardInterrupt(),
        ImportError("no", name="m", path="p"), AttributeError("no", name="a"), asyncio.CancelledError("why"),
        SyntaxError("bad", ("f.py", 1, 2, "x =", 1, 3)), TimeoutError("slow"), ZeroDivisionError("\ud800", 2**70),
        NotStorable("p", "r"), RemoteError("a.B", "m"), socket.gaierror(-2, "unknown"),
        json.JSONDecodeError("m", "d", 0),
        subprocess.CalledProcessError(3, ["ls"], b"out"), msgspec.ValidationError("m"),
    ],
)  # fmt: skip
def test_library_exceptions(error: BaseException) -> None:
    back = decode(encode(raised(error)))
    assert type(back) is type(error) and back.args == error.args and str(back) == str(error)
    for name in ("filename", "errno", "value", "code", "name", "path", "lineno", "reason", "returncode", "doc"):
        assert getattr(back, name, None) == getattr(error, name, None)


def test_groups() -> None:
    group = ExceptionGroup("two", [raised(ValueError(1)), ExceptionGroup("in", [Refused(1, hint="h")])])
    back = decode(encode(raised(group)))
    assert type(back) is ExceptionGroup and back.message == "two"
    assert [type(e) for e in back.exceptions] == [ValueError, ExceptionGroup]
    assert back.exceptions[1].exceptions[0].hint == "h"
    stop = decode(encode(BaseExceptionGroup("b", [KeyboardInterrupt()])))
    assert type(stop) is BaseExceptionGroup


def test_no_exception_fails_to_encode() -> None:
    class Local(Exception):
        def __str__(self) -> str:
            raise RuntimeError("broken")

        def __repr__(self) -> str:
            raise RuntimeError("broken")

    ring, other = ValueError("ring"), ValueError("other")
    ring.__cause__, other.__cause__ = other, ring
    itself = ValueError()
    itself.args = (itself, len, threading.Lock())
    deep: Any = []
    for _ in range(500):
        deep = [deep]
    chain: BaseException = ValueError("first")
    for n in range(300):
        later = ValueError(n)
        later.__cause__ = chain
        chain = later
    for error in [Local(), ring, itself, ValueError(deep), chain, ValueError("x" * 10**6), ValueError(Local())]:
        back = decode(encode(raised(error)))
        assert isinstance(back, ValueError | RemoteError)
        assert len(traceback_text(back).encode()) <= 8192
        json.dumps(to_plain(error))
    assert decode(encode(ValueError(len, 1))).args == (str(len), 1)


def test_an_exception_whose_class_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(raised(Refused(1, hint="h")))
    stubborn = Stubborn()
    stubborn.lock = threading.Lock()  # type: ignore[attr-defined]
    monkeypatch.delattr(sys.modules[__name__], "Refused")
    back = decode(data)
    assert type(back) is RemoteError and str(back) == "test_codec.Refused: refused with 1"
    assert "not in the code at hand" in back.__notes__[0] and "raise error" in traceback_text(back)
    odd = decode(encode(stubborn))
    assert (
        type(odd) is RemoteError and odd.type_name == "test_codec.Stubborn" and "cannot be rebuilt" in odd.__notes__[0]
    )
    assert type(decode(encode(back))) is RemoteError
    try:
        Model.model_validate({})
    except pydantic.ValidationError as invalid:
        assert "Field required" in decode(encode(invalid)).message


# --- names ------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert module_name(Point) == __name__
    assert resolve(f"{__name__}:Counting.doubled") is Counting.__dict__["doubled"]
    for bad in ("nonsense", ":x", "a:", "no_such_module_anywhere:x", "os:no_such_name"):
        with pytest.raises(UnknownType):
            resolve(bad)


def test_a_script_and_the_module_of_its_stem_understand_each_other(tmp_path: Path) -> None:
    script = tmp_path / "shop.py"
    script.write_text(
        "import dataclasses, sys\n"
        "from weft.core.codec import decode, encode\n"
        "@dataclasses.dataclass\n"
        "class Item:\n    n: int\n"
        "if __name__ == '__main__':\n"
        "    if len(sys.argv) > 1: print(decode(bytes.fromhex(sys.argv[1])).n)\n"
        "    else: print(encode(Item(7)).hex())\n"
    )
    path = ":".join(sys.path)

    def python(*arguments: str) -> str:
        command = [sys.executable, *arguments]
        env = {"PYTHONPATH": path}
        return subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    data = python("shop.py")
    assert python("shop.py", data) == "7" and python("-m", "shop", data) == "7" and python("-m", "shop") == data
    assert python("-c", "import shop; print(shop.encode(shop.Item(7)).hex())") == data
    code = f"from weft.core.codec import decode; print(type(decode(bytes.fromhex('{data}'))).__module__)"
    assert python("-c", code) == "shop"


def test_the_codec_imports_no_pydantic() -> None:
    code = "import weft.core.codec as c, sys; c.encode((1, {2})); print('pydantic' in sys.modules)"
    out = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": ":".join(sys.path)}, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "False"


# --- JSON forms --------------------------------------------------------------------------------------------------


def test_to_plain() -> None:
    value = {
        "p": Point(Colour.RED, (1, {2})), 3: b"abc", (1, 2): Decimal("1.5"), "e": Colour.DEEP, "f": Right.READ,
        "d": datetime(2024, 1, 2, tzinfo=UTC), "u": uuid.UUID(int=1), "t": timedelta(days=1, seconds=5),
        "m": Model(name="a"), "path": Path("a/b"), "long": bytes(1000), "pair": Pair(1),
    }  # fmt: skip
    plain = to_plain(value)
    assert plain == {
        "p": {"x": 1, "y": [1, [2]]}, "3": "YWJj", "[1, 2]": "1.5", "e": "DEEP", "f": 1,
        "d": "2024-01-02T00:00:00+00:00", "u": str(uuid.UUID(int=1)), "t": "P1DT5S",
        "m": {"name": "a", "when": None, "parts": []}, "path": "a/b", "long": plain["long"], "pair": [1, None],
    }  # fmt: skip
    assert len(plain["long"]) < 100 and "1000 bytes" in plain["long"]
    assert from_plain(to_plain(bytes(range(256)) * 9, whole=True), bytes) == bytes(range(256)) * 9
    shown = to_plain(raised(Refused(1, hint="h")))
    assert shown["type"] == "test_codec.Refused" and shown["message"] == "refused with 1"
    assert "raise error" in shown["traceback"]


@dataclasses.dataclass
class Job:
    name: str
    due: datetime | None = None
    where: Path = Path()
    level: Level = Level.LOW
    tags: frozenset[str] = frozenset()


def test_from_plain() -> None:
    job = Job("a", datetime(2024, 1, 2, tzinfo=UTC), Path("x"), Level.HIGH, frozenset({"t"}))
    assert from_plain(to_plain(job), Job) == job and from_plain(job, Job) is job
    assert from_plain([job], list[Job]) == [job] and from_plain((1, {2}), tuple[int, set[int]]) == (1, {2})
    assert from_plain([to_plain(job)], list[Job]) == [job] and from_plain(None, Job | None) is None
    assert from_plain({"name": "n"}, Model) == Model(name="n")
    assert from_plain({"name": "n"}, Model | None) == Model(name="n")
    assert from_plain([{"name": "n"}], list[Model]) == [Model(name="n")]
    assert from_plain({"x": 3}, Point | Callback) == Point(3)
    assert from_plain({"fn": 3}, Point | Callback) == Callback(3)
    assert from_plain({"id": 3}, Order) == Order(id=3)
    assert from_plain("P1DT5S", timedelta) == timedelta(days=1, seconds=5)
    assert from_plain(["a"], Any) == ["a"] and from_plain(1, float) == 1.0
    model = Model(name="x")
    assert from_plain(model, Model) is model
    for value, annotation, path in [
        ({"name": 1}, Job, "input.name"), ([{"name": "x"}, {}], list[Job], "input[1]"), ("x", int, "input"),
        ({"name": "a", "level": 9}, Job, "input.level"), ({}, Model, "name"), (3, Point | Callback, "input"),
        ("2024-99-01", datetime, "input"), ({"a": [1, "x"]}, dict[str, list[int]], "input[...][1]"),
    ]:  # fmt: skip
        with pytest.raises(BadInput) as caught:
            from_plain(value, annotation)
        assert path in str(caught.value)


def test_bind_plain() -> None:
    def one(urls: list[str]) -> None: ...
    def job(job: Job) -> None: ...
    def opt(n: int = 3) -> None: ...
    def two(url: str, n: int = 1, *, deep: bool = False) -> None: ...
    def many(*urls: str, **rest: int) -> None: ...
    def only(a: int, /, b: int = 2) -> None: ...
    def none() -> None: ...
    def table(data: dict[str, int]) -> None: ...

    assert bind_plain(one, ["a"]) == ((["a"],), {}) and bind_plain(one, {"urls": ["a"]}) == ((), {"urls": ["a"]})
    assert bind_plain(job, {"name": "x"}) == ((Job("x"),), {}) and bind_plain(job, {"job": {"name": "x"}})[1] == {
        "job": Job("x")
    }
    assert bind_plain(opt, {}) == bind_plain(opt, None) == bind_plain(none, {}) == bind_plain(none) == ((), {})
    assert bind_plain(opt, 4) == ((4,), {}) and bind_plain(opt, [4]) == ((4,), {})
    assert bind_plain(two, {"url": "u", "deep": True}) == ((), {"url": "u", "deep": True})
    assert bind_plain(two, ["u", 2]) == (("u", 2), {}) and bind_plain(two, "u") == (("u",), {})
    assert bind_plain(many, ["a", "b"]) == (("a", "b"), {}) and bind_plain(many, {"x": 1}) == ((), {"x": 1})
    assert bind_plain(only, {"a": 1, "b": 3}) == ((1,), {"b": 3})
    assert bind_plain(table, {"a": 1}) == (({"a": 1},), {})
    for fn, plain, says in [
        (one, {"url": ["a"]}, "no argument 'url'"), (one, {}, "missing argument 'urls'"), (one, None, "urls"),
        (one, {"urls": [1]}, "argument 'urls'[0]"), (two, {"url": "u", "x": 1}, "no argument 'x'"),
        (two, {"n": 1}, "missing argument 'url'"), (two, {"url": 1}, "argument 'url': Expected `str`"),
        (two, ["a", 1, True], "at most 2"), (two, [], "missing argument 'url'"), (none, {"a": 1}, "no argument 'a'"),
        (none, 3, "JSON object"), (none, [3], "at most 0"), (many, {"x": "y"}, "argument 'rest'"),
        (table, {"a": "x"}, "no argument 'a'"), (only, "x", "Expected `int`"),
    ]:  # fmt: skip
        with pytest.raises(BadInput) as caught:
            bind_plain(fn, plain)
        assert says in str(caught.value) and f"{fn.__name__}(" in str(caught.value)
