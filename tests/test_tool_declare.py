"""Tools: their schema is pydantic's, their words are the docstring's, and what a model wrote is read as it is meant."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired, Union

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, StrictInt, TypeAdapter
from pydantic_core import to_json
from typing_extensions import TypedDict

from weft.core.content import ToolCall, ToolSpec
from weft.core.errors import BadInput
from weft.core.step import step
from weft.core.workflow import workflow
from weft.tool import Tool, ToolContext, Toolset, files, http, tool
from weft.tool.parameters import Misfit


class Colour(enum.Enum):
    RED = "red"
    GREEN = "green"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.0


@dataclasses.dataclass
class Tree:
    """A tree of names."""

    name: str
    kids: list[Tree] = dataclasses.field(default_factory=list)


class Options(TypedDict):
    depth: int
    follow: NotRequired[bool]


class Order(BaseModel):
    """What is ordered."""

    model_config = ConfigDict(extra="forbid")
    item: str = Field(description="What it is", min_length=1)
    count: Annotated[int, Field(ge=1, le=99)] = 1
    at: datetime.datetime | None = None


class Basket(BaseModel):
    orders: list[Order]
    next: Basket | None = None


class Span(NamedTuple):
    start: int
    end: int = 10


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"]


class Size(msgspec.Struct, rename="camel"):
    page_width: int
    page_height: int = 10


class Link(msgspec.Struct):
    name: str
    links: list[Link] = []


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


def nothing() -> None: ...
def plain(a: int, b: str, c: float, d: bool, e: bytes, f: None) -> None: ...
def unsaid(a, b=3): ...  # type: ignore[no-untyped-def]
def defaults(a: int = 1, b: str = "x", c: float | None = None, d: list[int] | None = None) -> None: ...
def keywords(a: int, *, b: str = "x", c: bool) -> None: ...
def more(a: int, **rest: float) -> None: ...
def anything(a: Any, b: object, c: dict, d: list) -> None: ...  # type: ignore[type-arg]
def lists(a: list[int], b: tuple[int, str], c: tuple[int, ...], d: set[str], e: dict[str, list[int]]) -> None: ...
def others(a: frozenset[int], b: collections.deque[int], c: dict[int, str]) -> None: ...
def choices(a: Literal["x", "y", 3], b: Colour, c: Level, d: Literal["only"] = "only") -> None: ...
def unions(a: int | str, b: Union[int, list[str], None] = None) -> None: ...  # noqa: UP007
def times(a: datetime.datetime, b: datetime.date, c: datetime.timedelta, d: datetime.time) -> None: ...
def values(a: uuid.UUID, b: decimal.Decimal, c: Path) -> None: ...
def limited(a: Annotated[int, Field(ge=0, lt=9)], b: Annotated[str, Field(pattern="^a", max_length=5)]) -> None: ...
def described(
    a: Annotated[int, Field(description="How many")] = 3, *, b: int = Field(4, title="Bee", gt=1)
) -> None: ...
def renamed(a: Annotated[int, Field(alias="from")], b: int = 3) -> None: ...
def made(a: Annotated[list[int], Field(default_factory=list)], b: int = Field(default_factory=int)) -> None: ...
def dataclass(a: Point, b: list[Point], c: Point | None = None, d: dict[str, Point] | None = None) -> None: ...
def default_value(a: Point = Point(1)) -> None: ...
def recursive(a: Tree, b: Basket | None = None) -> None: ...
def typed_dict(a: Options, b: list[Options] | None = None) -> None: ...
def model(a: Order, b: Basket, c: Annotated[Order, Field(description="The first")]) -> None: ...
def named(a: Span, b: list[Span]) -> None: ...
def tagged(a: Pet, b: list[Pet]) -> None: ...
def strict(a: StrictInt) -> None: ...
async def later(a: int, b: list[Order]) -> None: ...


CORPUS: list[Callable[..., Any]] = [
    nothing, plain, unsaid, defaults, keywords, more, anything, lists, others, choices, unions, times, values, limited,
    described, renamed, made, dataclass, default_value, recursive, typed_dict, model, named, tagged, strict, later,
]  # fmt: skip


@pytest.mark.parametrize("fn", CORPUS, ids=lambda fn: fn.__name__)
def test_the_schema_is_pydantics(fn: Callable[..., Any]) -> None:
    assert Tool(fn).spec.schema == {"type": "object", "properties": {}, **TypeAdapter(fn).json_schema()}


def test_structs_look_like_the_dataclasses_that_they_are() -> None:
    def structs(a: Size, b: Link, c: list[Size] | None = None) -> None: ...

    found = Tool(structs).spec.schema
    assert found["required"] == ["a", "b"]
    assert found["$defs"]["Size"] == {
        "title": "Size", "type": "object", "required": ["pageWidth"],
        "properties": {
            "pageWidth": {"title": "Pagewidth", "type": "integer"},
            "pageHeight": {"title": "Pageheight", "type": "integer", "default": 10},
        },
    }  # fmt: skip
    assert found["$defs"]["Link"]["properties"]["links"]["items"] == {"$ref": "#/$defs/Link"}
    assert not hasattr(msgspec.Struct, "__get_pydantic_core_schema__")
    arguments = {"a": {"pageWidth": "3"}, "b": {"name": "x", "links": [{"name": "y"}]}}
    assert Tool(structs).parameters.read(arguments) == {"a": Size(3), "b": Link("x", [Link("y")])}


def test_a_structs_limits_and_tag_are_said_and_kept() -> None:
    class Small(msgspec.Struct, tag="small", forbid_unknown_fields=True):
        count: Annotated[int, msgspec.Meta(ge=1, description="How many")]

    def structs(a: Small) -> None: ...

    made = Tool(structs, scope=locals())
    assert made.spec.schema["$defs"]["Small"]["properties"] == {
        "type": {"const": "small", "default": "small", "title": "Type", "type": "string"},
        "count": {"description": "How many", "minimum": 1, "title": "Count", "type": "integer"},
    }
    assert made.parameters.read({"a": {"type": "small", "count": 2}}) == {"a": Small(2)}
    for wrong in ({"type": "large", "count": 2}, {"count": 0}, {"count": 1, "more": 2}):
        with pytest.raises(Misfit):
            made.parameters.read({"a": wrong})


# --- docstrings -----------------------------------------------------------------------------------------------------

GOOGLE = """Find words.

    In all of them.

    Args:
        query (str): What to look for,
            in words.
        limit: The most.

    Returns:
        What was found.
    """
NUMPY = """Find words.

    In all of them.

    Parameters
    ----------
    query : str
        What to look for,
        in words.
    limit
        The most.

    Returns
    -------
    str
        What was found.
    """
SPHINX = """Find words.

    In all of them.

    :param query: What to look for,
        in words.
    :param int limit: The most.
    :returns: What was found.
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_the_words_are_those_of_the_docstring(text: str) -> None:
    def find(query: str, limit: Annotated[int, Field(description="At most")] = 3) -> str:
        return query

    find.__doc__ = text
    spec = tool(find).spec
    assert spec.description == "Find words.\n\nIn all of them.\n\nReturns: What was found."
    told = {name: one["description"] for name, one in spec.schema["properties"].items()}
    assert told == {"query": "What to look for, in words.", "limit": "At most"}  # the hint counts more


def test_sections_without_a_blank_line_before_them_are_found() -> None:
    def find(query: str) -> None:
        """Find words.
        Args:
            query: What to look for.
        Raises:
            KeyError: Never.
        """

    spec = tool(find).spec
    assert spec.description == "Find words."
    assert spec.schema["properties"]["query"]["description"] == "What to look for."


def test_a_docstring_of_no_style_is_the_description() -> None:
    def find(query: str) -> None:
        """Find: all of it.

        Note: not `args`."""

    assert tool(find).spec == ToolSpec("find", "Find: all of it.\n\nNote: not `args`.", Tool(find).spec.schema)
    assert tool(description="Otherwise")(find).spec.description == "Otherwise"
    assert tool(lambda x: x, name="x").spec.description == ""  # type: ignore[call-overload]


# --- declarations -----------------------------------------------------------------------------------------------------


def test_the_context_is_hidden_and_given() -> None:
    @tool
    async def one(a: int, context: ToolContext[int]) -> tuple[int, int]:
        return a, context.attempt

    @tool
    def other(context: ToolContext, a: int = 2) -> tuple[int, Path]:  # type: ignore[type-arg]
        return a, context.workspace

    @tool
    def third(a: int = 2, *, context: ToolContext[Any] | None = None) -> bool:
        return context is not None

    for made in (one, other, third):
        assert list(made.spec.schema["properties"]) == ["a"]

    @tool
    async def first(context: ToolContext[Any], a: int, **more: int) -> tuple[Any, ...]:
        return context.attempt, a, more

    assert asyncio.run(one(1)) == (1, 1)
    assert asyncio.run(first(1, b=2)) == (1, 1, {"b": 2})
    assert asyncio.run(other()) == (2, Path.cwd())
    assert asyncio.run(other(5)) == (5, Path.cwd())
    assert asyncio.run(third(3)) is True
    with pytest.raises(TypeError):
        asyncio.run(one(1, 2, 3))  # type: ignore[call-arg, arg-type]


def test_a_step_and_an_object_that_is_called_are_tools_too() -> None:
    class Adder:
        async def __call__(self, a: int, b: int = 1) -> int:
            """Add them."""
            return a + b

    @step(effect="pure", needs="read:{path}", timeout=3)
    async def peek(path: str) -> str:
        """Look."""
        return path

    add, look = Tool(Adder(), name="add"), tool(peek)
    assert (add.spec.description, list(add.spec.schema["properties"])) == ("Add them.", ["a", "b"])
    assert asyncio.run(add(1)) == 2
    assert (look.name, look.effect, look.needs, look.timeout) == ("peek", "pure", peek.needs, 3)
    assert asyncio.run(look.call(ToolCall(id="1", name="peek", arguments={"path": "x"}))).text == "x"
    assert look.version == look.options(limit=3).version == peek.version
    assert (look.lane, tool(peek.options(effect="idempotent")).lane) == (None, None)
    assert asyncio.run(tool(files.exists)(".")) is True


@workflow
async def program(a: int) -> None: ...


def yields(a: int) -> Iterator[int]:
    yield a


def test_hints_may_mean_what_is_only_known_where_the_tool_is_declared() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    @tool
    def take(a: Local) -> int:
        return a.x

    assert take.parameters.read({"a": {"x": "3"}}) == {"a": Local(3)}

    def unknown(a: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(BadInput, match=r"unknown\(a: Nowhere\) is annotated with what can't be found"):
        _ = tool(unknown).spec


def test_a_method_of_an_object_is_a_tool() -> None:
    class Counter:
        total = 0

        def add(self, count: int) -> int:
            """Add to it."""
            self.total += count
            return self.total

    counter = Counter()
    add = tool(counter.add)
    assert (add.name, add.spec.description, list(add.spec.schema["properties"])) == ("add", "Add to it.", ["count"])
    assert [asyncio.run(add(2)), asyncio.run(add(3))] == [2, 5]
    with pytest.raises(BadInput, match="belongs to no object yet"):
        tool(Counter.add)


def test_defaults_by_field_count_in_calls_too() -> None:
    @tool
    async def count(a: int = Field(3), b: list[int] = Field(default_factory=list), c: int = 5) -> tuple[Any, ...]:
        return a, b, c

    assert asyncio.run(count()) == (3, [], 5)
    assert asyncio.run(count(1, c=2)) == (1, [], 2)
    assert count.arguments((), count.parameters.read({"a": 4})) == {"a": 4, "b": [], "c": 5}


def star(*a: int) -> None: ...
def positional(a: int, /) -> None: ...
def unknowable(a: asyncio.Event) -> None: ...


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tool(star), r"a of star\(\) has none"),
        (lambda: tool(positional), "models give arguments by name"),
        (lambda: tool(unknowable).spec, r"unknowable\(\) have no JSON schema.*Event"),
        (lambda: tool(lambda a: a), "needs a name"),
        (lambda: tool(name="")(nothing), "needs a name"),
        (lambda: tool(program), "program is a workflow"),
        (lambda: tool(http.fetch), "effect of http.fetch depends on its arguments"),
        (lambda: tool(yields), "yields yields; a tool returns"),
        (lambda: tool(limit=0)(nothing), "characters of a result"),
        (lambda: tool(effect="twice")(nothing), "must be 'pure'"),  # type: ignore[call-arg]
        (lambda: tool(order="sometimes")(nothing), "must be one of"),
        (lambda: tool(needs="write:{path}")(nothing), "has no argument path"),
        (lambda: tool(schema={"type": "array"})(nothing), "describes an object"),
        (lambda: tool(3), "not a function"),  # type: ignore[call-overload]
    ],
)
def test_what_can_be_no_tool_is_refused_with_the_reason(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()


def test_a_typed_dict_of_old_typing_says_what_to_use_instead() -> None:
    if sys.version_info >= (3, 12):
        pytest.skip("this Python's TypedDict is whole")
    import typing

    old = typing.TypedDict("old", {"a": int})  # noqa: UP013 (of typing, whatever the file imports)

    def take(a: old) -> None: ...  # type: ignore[valid-type]

    with pytest.raises(BadInput, match="typing_extensions"):
        _ = Tool(take, scope={"old": old}).spec


def test_options_make_the_same_tool_otherwise() -> None:
    @tool(effect="pure", timeout=3)
    async def look(a: int, context: ToolContext[Any]) -> int:
        return a

    made = look.options(retries=2)
    assert isinstance(made, Tool)
    assert (made.effect, made.timeout, made.retries and made.retries.attempts) == ("pure", 3, 2)
    assert made.spec == look.spec
    assert look.renamed("see").options(timeout=1).spec.name == "see"
    assert look.renamed("see").name == "look"
    with pytest.raises(TypeError):
        look.options(colour="red")


def test_declaring_a_tool_imports_no_heavy_library() -> None:
    program = (
        "import sys; from weft.tool import tool, Toolset, ToolContext\n"
        "@tool\ndef f(a: int) -> int:\n  'Args:\\n    a: one'\n  return a\n"
        "Toolset(f)\n"
        "heavy = {'pydantic', 'griffe', 'httpx2', 'sqlite3', 'asyncpg'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "f.spec; assert {'pydantic', 'griffe'} <= set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


# --- toolsets ---------------------------------------------------------------------------------------------------------


def a(x: int) -> None: ...
def b(x: int) -> None: ...
def c(x: int) -> None: ...


def test_a_toolset_keeps_its_order_and_its_names_apart() -> None:
    tools = Toolset(tool(b), Toolset(tool(a)), tool(c))
    assert tools.names == ("b", "a", "c")
    assert [spec.name for spec in tools.specs] == ["b", "a", "c"]
    assert tools.only("c", "b").names == ("b", "c")
    assert tools.without("a").names == ("b", "c")
    assert tools.prefixed("x_").renamed({"x_a": "y"}).names == ("x_b", "y", "x_c")
    assert [one.name for one in tools.prefixed("x_")] == ["b", "a", "c"]
    assert (tools.only("a") + tools.only("b")).names == ("a", "b")
    assert tools.filtered(lambda one: one.name > "a").names == ("b", "c")
    assert ("a" in tools, "d" in tools, len(tools)) == (True, False, 3)
    assert tools["a"].name == "a"
    assert Toolset(tools["a"], tools["a"]).names == ("a",)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Toolset(tool(a), tool(a)), "two tools are named 'a'"),
        (lambda: Toolset(tool(a), tool(b)).renamed({"a": "b"}), "two tools are named 'b'"),
        (lambda: Toolset(a), "becomes a tool by"),  # type: ignore[arg-type]
        (lambda: Toolset(tool(a)).renamed({"a": "a b"}), "no name for a tool"),
        (lambda: Toolset(tool(a)).only("aa"), "no tool 'aa'; did you mean 'a'"),
        (lambda: Toolset(tool(a)).without("z"), "there is no tool 'z'"),
        (lambda: Toolset()["z"], "There are no tools"),
    ],
)
def test_a_toolset_refuses_what_it_cannot_hold(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        make()


# --- what a model wrote ---------------------------------------------------------------------------------------------


def take(count: int, names: list[str] | None = None, spot: Point | None = None, note: str = "") -> None: ...


TAKE = tool(take)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ({"count": 1}, {"count": 1}),
        ({"count": "1", "note": "[1]"}, {"count": 1, "note": "[1]"}),  # a text that is meant to be one stays
        ({"count": 1, "names": '["a"]', "spot": '{"x": 2}'}, {"count": 1, "names": ["a"], "spot": Point(2)}),
        ('{"count": 1}', {"count": 1}),
        ('```json\n{"count": 1}\n```', {"count": 1}),
        (json.dumps(json.dumps({"count": 1})), {"count": 1}),
    ],
)
def test_what_can_mean_one_thing_only_is_taken_so(sent: Any, read: dict[str, Any]) -> None:
    assert TAKE.parameters.read(sent) == read


@pytest.mark.parametrize(
    ("sent", "problems"),
    [
        ({}, [("count", "is missing")]),
        ("", [("count", "is missing")]),
        ({"count": 1, "nam": 2}, [("nam", "there is no such parameter")]),
        (
            {"count": "x", "names": ["a", 3]},
            [
                ("count", 'Input should be a valid integer, unable to parse string as an integer, not "x"'),
                ("names[1]", "Input should be a valid string, not 3"),
            ],
        ),
        ({"count": 1, "spot": {"y": 1}}, [("spot.x", "is missing")]),
        ({"count": 1, "names": "[1"}, [("names", 'Input should be a valid array, not "[1"')]),
        ("[1]", [("", "what was sent is [1], not an object")]),
        (
            '{"count": 1',
            [("", "what was sent is no JSON: Expecting ',' delimiter at line 1 column 12, near '{\"count\": 1'")],
        ),
    ],
)
def test_each_wrong_part_is_named(sent: Any, problems: list[tuple[str, str]]) -> None:
    with pytest.raises(Misfit) as found:
        TAKE.parameters.read(sent)
    assert found.value.problems == problems
    assert str(found.value).endswith("It takes count, names?, spot?, note?.")


def test_a_deep_text_is_refused_and_nothing_breaks() -> None:
    with pytest.raises(Misfit, match="no JSON"):
        TAKE.parameters.read('{"a":' * 100_000)
    with pytest.raises(Misfit, match="and 80 more"):
        TAKE.parameters.read({"count": 1, "names": list(range(100))})


def test_strict_hints_read_json_as_json() -> None:
    class Day(BaseModel):
        model_config = ConfigDict(strict=True)
        day: datetime.date
        colour: Colour

    def plan(day: Day) -> None: ...

    found = Tool(plan, scope=locals()).parameters.read({"day": {"day": "2026-11-26", "colour": "red"}})
    assert found["day"].day == datetime.date(2026, 11, 26)


SHAPE = {
    "type": "object",
    "properties": {"path": {"type": "string"}, "lines": {"type": "array", "items": {"type": "integer"}}},
    "required": ["path"],
    "additionalProperties": False,
}


def test_a_schema_says_what_a_function_of_any_arguments_takes() -> None:
    @tool(schema=SHAPE, needs=lambda path, **_: [("read", path)])
    async def peek(**arguments: Any) -> dict[str, Any]:
        """Look into a file."""
        return arguments

    assert peek.spec == ToolSpec("peek", "Look into a file.", SHAPE)
    read = peek.parameters.read
    assert read({"path": "a", "lines": "[1, 2]"}) == {"path": "a", "lines": [1, 2]}
    for wrong, told in (
        ({}, "arguments lacks path"),
        ({"path": 1}, "arguments.path is 1, not a text"),
        ({"path": "a", "lines": ["x"]}, r"arguments.lines\[0\] is \"x\""),
        ({"path": "a", "lines": "[x]"}, "arguments.lines is"),
        ({"path": "a", "more": 1}, "arguments has more, which is unknown"),
    ):
        with pytest.raises(Misfit, match=told):
            read(wrong)
    assert peek.arguments((), {"path": "a"}) == {"path": "a"}
    result = asyncio.run(peek.call(ToolCall(id="1", name="peek", arguments={"path": "a"})))
    assert result.text == '{"path":"a"}'


# --- anything that has a type ---------------------------------------------------------------------------------------

_keys = st.text("abc", min_size=1, max_size=3)
_leaves = st.sampled_from(
    [int, str, bool, type(None), Colour, Point, Span, Literal["x", 1], datetime.date, datetime.timedelta, uuid.UUID]
)
_types: st.SearchStrategy[Any] = st.recursive(
    _leaves,
    lambda inner: st.one_of(
        inner.map(lambda one: list[one]),  # type: ignore[valid-type]
        inner.map(lambda one: dict[str, one]),  # type: ignore[valid-type]
        inner.map(lambda one: tuple[one, ...]),  # type: ignore[valid-type]
        inner.map(lambda one: one | None if one is not type(None) and not isinstance(one, str) else one),
        inner.map(lambda one: Annotated[one, Field(description="d")]),
    ),
    max_leaves=4,
)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), kind=_types, optional=st.booleans())
def test_any_type_has_pydantics_schema_and_its_values_come_back(data: st.DataObject, kind: Any, optional: bool) -> None:
    def take(a: Any, b: Any = None) -> None: ...

    take.__annotations__ = {"a": kind, "b": kind | None if optional and not hasattr(kind, "__metadata__") else Any}
    made = Tool(take)
    assert made.spec.schema == TypeAdapter(take).json_schema()
    plain = kind.__origin__ if hasattr(kind, "__metadata__") else kind
    value = data.draw(st.from_type(plain))
    try:
        sent = json.loads(to_json(value))
    except ValueError:
        return  # a text that is no UTF-8, a number that is no JSON
    try:
        expected = TypeAdapter(kind).validate_json(json.dumps(sent))
    except ValueError:
        return
    assert repr(made.parameters.read({"a": sent})) == repr({"a": expected})  # nan is not itself


@settings(max_examples=100, deadline=None)
@given(
    st.one_of(
        st.text(), st.dictionaries(st.text(), st.one_of(st.none(), st.text(), st.integers(), st.lists(st.text())))
    )
)
def test_whatever_is_sent_is_read_or_refused(sent: Any) -> None:
    try:
        found = TAKE.parameters.read(sent)
    except Misfit as error:
        assert error.problems
        assert str(error)
    else:
        assert inspect.signature(take).bind(**found)
