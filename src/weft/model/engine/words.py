"""The text that tokens add up to, as they come: characters put together from their bytes, up to a stop, and, in front
of the answer, what the model thinks between <think> and </think>."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

_BEGIN, _END = "<think>", "</think>"


class Words:
    """A text under way. What may yet turn out to be the beginning of a stop is held back."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self.stops = stops
        self.stopped = False
        """Whether one of the stops came: nothing is added any more."""
        self._reader = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def add(self, piece: bytes) -> str:
        """What is certain now."""
        if self.stopped:
            return ""
        held = self._held + self._reader.decode(piece)
        places = [held.find(stop) for stop in self.stops if stop in held]
        self.stopped = bool(places)
        safe = min(places) if places else len(held) - _begun(held, self.stops)
        self._held = "" if self.stopped else held[safe:]
        return held[:safe]

    def end(self) -> str:
        """What was held back: no more comes."""
        rest = "" if self.stopped else self._held + self._reader.decode(b"", True)
        self._held, self.stopped = "", True
        return rest


def _begun(text: str, stops: Sequence[str]) -> int:
    """How much of the end of a text is the beginning of a stop."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


class Thoughts:
    """Tells thoughts from the answer. `begun`: the prompt ended inside the thoughts."""

    def __init__(self, begun: bool) -> None:
        self.thinking: bool | None = begun or None
        """None: nothing is known yet."""
        self._held = ""
        self._after = False
        """Thoughts have just ended: line ends between them and the answer belong to neither."""

    def add(self, text: str, last: bool = False) -> tuple[str, str]:
        """More text: of the thoughts, and of the answer. `last`: no more comes."""
        held, self._held = self._held + text, ""
        if self.thinking is None:
            start = held.lstrip()
            if start.startswith(_BEGIN):
                self.thinking, held = True, start[len(_BEGIN) :]
            elif _BEGIN.startswith(start) and not last:
                self._held = held
                return "", ""
            else:
                self.thinking = False
        if not self.thinking:
            answer = held.lstrip("\n") if self._after else held
            self._after = self._after and not answer
            return "", answer
        thought, ended, answer = held.partition(_END)
        if ended:
            answer = answer.lstrip("\n")
            self.thinking, self._after = False, not answer
            return thought, answer
        size = 0 if last else _begun(thought, [_END])
        self._held = thought[len(thought) - size :]
        return thought[: len(thought) - size], ""
