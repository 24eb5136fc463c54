"""Reasoning as a tree inside one inference, with finished parts dropped from memory (TIM and TIMRUN).

    {"reasoning": [{"thought": "...", "tooluse": {"tool_name": "...", "parameters": {...}, "tool_result": ...},
                    "subtasks": [...], "conclusion": "..."}, ...], "answer": "..."}

The model writes this one JSON text, held to its grammar; tools are called in the middle of it. When a list of subtasks
is finished and its parent has drawn the conclusion, the list goes on a stack of fixed size; what falls off its end is
cut out of the cells, and what stands after it is computed again in its place. So cells and positions are used again,
and the text may be many times longer than what fits. Method: arXiv 2507.16784, written from its description.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from weft.core.errors import BadInput, OutOfCells
from weft.model.engine.grammar import COMPACT, Grammar
from weft.model.engine.protocol import Engine, Feed, Sampling, Sequence, Want

_STRING = r'([^"\\\x00-\x1f\x7f]|\\["\\/bfnrt])*"'
TASK, MORE, END_LIST = '{"thought": "', ', {"thought": "', "]"
TOOL, SUBTASKS, CONCLUSION = ', "tooluse": {"tool_name": "', ', "subtasks": [', ', "conclusion": "'


class Tool(msgspec.Struct, frozen=True):
    """A tool that can be called in the middle of the text."""

    name: str
    parameters: dict[str, Any]
    """The JSON schema of its arguments, an object."""
    run: Callable[[dict[str, Any]], Awaitable[Any]]
    """Calls it; inside a workflow, a step or a tool of Weft, so that it is journaled. What it raises is told to the
    model as an error."""


class Limits(msgspec.Struct, frozen=True):
    """Where the grammar makes the model come to an end."""

    depth: int = 4
    """Of the tree; 1: no subtasks."""
    width: int = 8
    """Tasks in a list."""
    tasks: int = 256
    """Tasks in all; then every list ends."""
    words: int = 64
    """Tokens of a thought, a conclusion or the answer, about: it is closed at the next place where it can be."""
    result: int = 256
    """Tokens of a tool's result; what is longer is cut, and the model is told."""


class Place(NamedTuple):
    """Where in the tree a choice is made."""

    depth: int
    """From 1 for tasks of the root."""
    number: int
    """Of the task in its list, from 1."""
    tasks: int
    """Begun so far, in all."""


Choose = Callable[[Place, list[str]], str | None]
"""Decides instead of the model how the text goes on, by one of the texts that are allowed; None: the model decides."""


class Solved(msgspec.Struct, frozen=True):
    """What came out, and what it took; counts are of tokens."""

    text: str
    """The whole JSON, also what was dropped."""
    emitted: int
    """Of that text."""
    drawn: int
    """Of these, by the model; the others follow from the grammar or came from tools."""
    pruned: int
    """Of these, dropped from the cells before the end."""
    computed_again: int
    most: int
    """The most cells that it had at once, with the prompt."""
    calls: int

    @property
    def tree(self) -> dict[str, Any]:
        tree: dict[str, Any] = json.loads(self.text)
        return tree

    @property
    def answer(self) -> str:
        return str(self.tree["answer"])


async def solve(
    engine: Engine,
    prompt: list[int],
    tools: Iterable[Tool] = (),
    *,
    limits: Limits | None = None,
    stack: int = 2,
    room: int | None = None,
    sampling: Sampling | None = None,
    choose: Choose | None = None,
    log: list[int] | None = None,
) -> Solved:
    """Write one tree after `prompt`. `stack`: how many finished lists stay in the cells; `room`: the most cells to use
    (the engine's); more lists are dropped when they do not suffice. Several at once share their steps if the engine is
    a `Together`. `log`: what was drawn in an earlier life, to be drawn again; what is drawn now is added to it. Raises
    OutOfCells if not even the open tasks fit; BadInput for tools or limits that make no sense."""
    writer = _Writer(engine, [*tools], limits or Limits(), stack, room or engine.cells, sampling or Sampling(), choose)
    if log is not None:
        writer.known = deque(log)
        log.clear()
        writer.log = log
    await writer.begin(prompt)
    try:
        await writer.root()
        return writer.solved()
    finally:
        await writer.sequence.close()


@dataclass(eq=False, slots=True)
class _Span:
    """Places in the cells, from `start` to before `end`; they move when something before them is dropped."""

    start: int
    end: int


class _Line:
    """A text that grows in a sequence; what is said is fed together with the next draw."""

    sequence: Sequence

    def __init__(self, engine: Engine, stack: int, room: int, sampling: Sampling) -> None:
        self.engine, self.stack, self.room, self.sampling = engine, stack, room, sampling
        self.ahead: list[int] = []
        """Said or drawn, but not fed yet."""
        self.text = bytearray()
        self.writing: list[_Span] = []
        """What is being written."""
        self.spans: list[_Span] = []
        """The finished lists in the cells, the oldest first."""
        self.log: list[int] = []
        """All that the model drew."""
        self.known: deque[int] = deque()
        """What it drew in an earlier life, and draws again."""
        self.emitted = self.drawn = self.pruned = self.again = self.most = 0

    @property
    def place(self) -> int:
        return self.sequence.length + len(self.ahead)

    def put(self, tokens: list[int], words: bytes) -> None:
        self.ahead += tokens
        self.emitted += len(tokens)
        self.text += words

    async def say(self, text: str) -> None:
        """Go on with this text."""
        self.put(await self.engine.tokenize(text), text.encode())

    async def draw(self, allow: bytes) -> int:
        """The next token, one of those allowed."""
        while self.place > self.room and self.spans:
            await self.prune()
        if self.place > self.room:
            raise OutOfCells(
                f"the open tasks and the prompt take {self.place} cells of {self.room}, and no finished list is left "
                "to drop; give it more room, or set limits to fewer words, less depth or shorter results"
            )
        want: Want = "none" if self.known else "last"
        (told,) = await self.engine.step([Feed(self.sequence, self.ahead, want, self.sampling, allow)])
        self.most = max(self.most, self.sequence.length)
        token = self.known.popleft() if self.known else told.tokens[0]
        self.log.append(token)
        self.ahead = []
        self.drawn += 1
        self.put([token], await self.engine.detokenize([token]))
        return token

    def mark(self) -> _Span:
        """What is written from here on."""
        self.writing.append(_Span(self.place, self.place))
        return self.writing[-1]

    async def finished(self, written: _Span) -> None:
        """A list is finished, and so are those inside it; the oldest falls off the stack."""
        self.writing.remove(written)
        self.spans = [span for span in self.spans if not written.start <= span.start < written.end]
        self.spans.append(written)
        while len(self.spans) > self.stack:
            await self.prune()

    async def prune(self) -> None:
        """Cut the oldest finished list out. What stands after it moves up and is computed again."""
        gone = self.spans.pop(0)
        size = gone.end - gone.start
        self.again += await self.sequence.splice(gone.start, gone.end)
        self.pruned += size
        for span in (*self.spans, *self.writing):
            span.start -= size if span.start >= gone.end else 0
            span.end -= size if span.end >= gone.end else 0

    async def take_back(self, written: _Span, words: int) -> None:
        """Forget what was said since its start, when the text had so many bytes."""
        self.writing.remove(written)
        self.emitted -= self.place - written.start
        del self.text[words:]
        fed = self.sequence.length
        await self.sequence.trim(min(written.start, fed))
        del self.ahead[max(0, written.start - fed) :]


class _Writer(_Line):
    """Writes the tree."""

    def __init__(
        self,
        engine: Engine,
        tools: list[Tool],
        limits: Limits,
        stack: int,
        room: int,
        sampling: Sampling,
        choose: Choose | None,
    ) -> None:
        super().__init__(engine, stack, room, sampling)
        self.tools = {tool.name: tool for tool in tools}
        self.limits, self.choose = limits, choose
        self.tasks = self.calls = 0
        if min(limits.depth, limits.width, limits.tasks, limits.words, limits.result) < 1 or stack < 0:
            raise BadInput("limits are at least 1 each, and the stack of finished lists holds 0 or more")
        if len(self.tools) < len(tools):
            raise BadInput("two tools have the same name; rename one")
        if any(json.dumps(name) != f'"{name}"' for name in self.tools):
            raise BadInput("a tool's name must be plain: no quotes, backslashes or letters beyond ASCII")
        self._string = Grammar(engine, regex=_STRING)  # type: ignore[arg-type]
        self._schemas = {tool.name: _compact(tool, engine) for tool in tools}

    async def begin(self, prompt: list[int]) -> None:
        if not prompt:
            raise BadInput("subtasks need a prompt of at least one token")
        self._quote = (await self.engine.tokenize('"'))[-1]
        self.sequence = await self.engine.sequence("subtasks")
        self.ahead = [*prompt]

    def solved(self) -> Solved:
        text = self.text.decode("utf-8", "replace")
        return Solved(text, self.emitted, self.drawn, self.pruned, self.again, self.most, self.calls)

    # --- the tree ---------------------------------------------------------------------------------------

    async def root(self) -> None:
        await self.say('{"reasoning": [')
        await self._list(1)
        await self.say(', "answer": "')
        await self._words()
        await self.say("}")

    async def _list(self, depth: int) -> int:
        """The tasks of a list, and its end. Returns the place before that."""
        await self.say(TASK)
        number = 1
        while True:
            self.tasks += 1
            await self._task(depth, number)
            end = self.place
            more = number < self.limits.width and self.tasks < self.limits.tasks
            if await self._choice(Place(depth, number, self.tasks), [MORE, END_LIST] if more else [END_LIST]) != MORE:
                return end
            number += 1

    async def _task(self, depth: int, number: int) -> None:
        await self._words()
        place = Place(depth, number, self.tasks)
        deeper = [SUBTASKS] if depth < self.limits.depth and self.tasks < self.limits.tasks else []
        chosen = await self._choice(place, [*([TOOL] if self.tools else []), *deeper, CONCLUSION])
        if chosen == TOOL:
            await self._tool(place)
            chosen = await self._choice(place, [*deeper, CONCLUSION])
        written = None
        if chosen == SUBTASKS:
            written = self.mark()
            written.end = await self._list(depth + 1)
            await self.say(CONCLUSION)
        await self._words()
        await self.say("}")
        if written is not None:
            await self.finished(written)

    async def _tool(self, place: Place) -> None:
        named = {f'{name}", "parameters": ': name for name in self.tools}
        tool = self.tools[named[await self._choice(place, [*named])]]
        written, words = self.mark(), len(self.text)
        parameters = await self._fitting(self._schemas[tool.name].copy())
        if parameters is None:
            await self.take_back(written, words)
            await self.say("null")
            result = json.dumps({"error": f"the parameters came to no end within {4 * self.limits.words} tokens"})
        else:
            self.writing.remove(written)
            self.calls += 1
            result = await _result(tool, parameters)
        tokens = await self.engine.tokenize(result)
        if len(tokens) > self.limits.result:
            cut = (await self.engine.detokenize(tokens[: self.limits.result // 2])).decode("utf-8", "ignore")
            result = json.dumps({"cut": cut, "error": f"only the first part of {len(tokens)} tokens is shown"})
        await self.say(f', "tool_result": {result}}}')

    # --- its parts --------------------------------------------------------------------------------------

    async def _words(self) -> None:
        """The rest of a string, with its closing quote."""
        rules = self._string.copy()
        count = 0
        while not rules.whole:
            allow = rules.allow()
            if count >= self.limits.words and self._closes(rules, allow):
                self.put([self._quote], b'"')
                return
            rules.accept(await self.draw(allow))
            count += 1

    def _closes(self, rules: Grammar, allow: bytes) -> bool:
        """Whether a quote ends the string here, and is not part of an escape or no letter yet."""
        if not allow[self._quote // 8] >> self._quote % 8 & 1:
            return False
        after = rules.copy()
        after.accept(self._quote)
        return after.whole

    async def _fitting(self, rules: Grammar) -> dict[str, Any] | None:
        """An object that fits; None if it came to no end."""
        start = len(self.text)
        for _ in range(4 * self.limits.words):
            rules.accept(await self.draw(rules.allow()))
            if rules.whole:
                found: dict[str, Any] = json.loads(self.text[start:])
                return found
        return None

    async def _choice(self, place: Place, texts: list[str]) -> str:
        """Go on with one of the texts: the one that `choose` says, else the one that the model writes."""
        said = self.choose(place, texts) if self.choose is not None and len(texts) > 1 else None
        if said is not None and said not in texts:
            raise BadInput(f"{said!r} is none of the ways to go on here: {texts}")
        left = {text: await self.engine.tokenize(text) for text in texts}
        number = 0
        while said is None:
            nexts = {tokens[number] for tokens in left.values()}
            token = next(iter(nexts)) if len(nexts) == 1 else await self.draw(self._mask(nexts))
            if len(nexts) == 1:
                self.put([token], await self.engine.detokenize([token]))
            left = {text: tokens for text, tokens in left.items() if tokens[number] == token}
            number += 1
            if len(left) == 1:
                said = next(iter(left))
        rest = left[said][number:]
        self.put(rest, await self.engine.detokenize(rest))
        return said

    def _mask(self, tokens: Iterable[int]) -> bytes:
        mask = bytearray((self.engine.vocabulary + 31) // 32 * 4)
        for token in tokens:
            mask[token // 8] |= 1 << token % 8
        return bytes(mask)


async def _result(tool: Tool, parameters: dict[str, Any]) -> str:
    try:
        return json.dumps(await tool.run(parameters), ensure_ascii=False)
    except Exception as error:
        return json.dumps({"error": f"{type(error).__name__}: {error}"[:500]}, ensure_ascii=False)


def _compact(tool: Tool, engine: Engine) -> Grammar:
    if tool.parameters.get("type") != "object":
        raise BadInput(f"the parameters of the tool {tool.name!r} must be the schema of an object")
    return Grammar(engine, schema={**tool.parameters, "x-guidance": COMPACT})  # type: ignore[arg-type]
