"""The reply that the tokens of a local generation add up to, and its events as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from weft.model.dialect.gather import Gather, calls_in
from weft.model.engine.local import LocalEngine
from weft.model.engine.words import Thoughts, Words
from weft.model.event import Event
from weft.model.request import Finish, Likely, Reply, Request, Usage

Tell = Callable[[list[Event]], object]


class Writing:
    """One answer under way. `thinking`: the prompt ended inside the thoughts; `tell` is told each event."""

    def __init__(self, engine: LocalEngine, request: Request, thinking: bool, tell: Tell | None) -> None:
        self.words = Words(request.stop)
        self.tokens: list[int] = []
        self._engine, self._tell = engine, tell
        self._gather = Gather(calls_in(request.messages))
        self._thoughts = Thoughts(thinking) if request.schema is None else None
        self._thought = 0

    @property
    def stopped(self) -> bool:
        """Whether one of the request's stops came."""
        return self.words.stopped

    def token(self, token: int) -> None:
        """The next token."""
        self.tokens.append(token)
        self._add(self.words.add(self._engine.piece(token)))
        self._thought += bool(self._thoughts is not None and self._thoughts.thinking)

    def likely(self, places: list[list[tuple[int, float]]], most: int) -> None:
        """The likeliest tokens in the place of each token; `most`: how many to tell, beside the one drawn."""
        for token, place in zip(self.tokens, places, strict=False):
            score = next(score for each, score in place if each == token)
            top = tuple((self._text(each), score) for each, score in place[:most])
            self._gather.logprobs.append(Likely(self._text(token), score, top))

    def end(self, finish: Finish, prompt: int, found: int) -> Reply:
        """The whole. `found`: how many of the tokens of the `prompt` were in cells already."""
        self._add(self.words.end(), last=True)
        usage = Usage(input=prompt, output=len(self.tokens), cache_read=found, reasoning=self._thought)
        self._put(self._gather.counted(usage))
        self._gather.finish = finish
        return self._gather.end()

    def _add(self, text: str, last: bool = False) -> None:
        thought, answer = ("", text) if self._thoughts is None else self._thoughts.add(text, last)
        self._put(self._gather.reasoning(thought))
        self._put(self._gather.text(answer))

    def _put(self, events: Iterator[Event]) -> None:
        listed = [*events]
        if listed and self._tell is not None:
            self._tell(listed)

    def _text(self, token: int) -> str:
        return self._engine.piece(token).decode("utf-8", "replace")
