"""Messages as the tokens of a prompt, by the chat template that the model's file carries.

    tokens = await prompted(engine, [{"role": "user", "content": "Hello"}])

Templates are written in Jinja; they come with a file from anywhere, so they run in its sandbox. What people and tools
said are words: a text like <|im_end|> in a message is tokenized as these characters, and never ends the message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from weft.core.errors import BadInput, MissingExtra

_PLAIN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, for a file without a template."""
_MARK = "\ue0f7"
"""Of a private area: it stands in a control token's name that somebody said, until the text is cut into tokens."""


class Templated(Protocol):
    """An engine that has a chat template."""

    @property
    def pieces(self) -> list[bytes]: ...
    @property
    def controls(self) -> frozenset[int]: ...
    @property
    def hello(self) -> Any: ...
    async def tokenize(self, text: str, special: bool = False) -> list[int]: ...


async def prompted(engine: Templated, messages: Sequence[dict[str, Any]], **more: Any) -> list[int]:
    """The tokens of a chat up to where the answer begins. `more`: what else the template may ask for, such as
    `enable_thinking`. Raises BadInput where the template refuses the messages, MissingExtra without `local`."""
    controls = _controls(engine)
    text = rendered(engine, [_words_only(message, controls) for message in messages], **more)
    return await tokens_of(engine, text)


def rendered(engine: Templated, messages: Sequence[dict[str, Any]], answer: bool = True, **more: Any) -> str:
    """The chat as one text. `answer`: up to where the model's answer begins."""
    hello = engine.hello
    template = _template(hello.template or _PLAIN)
    try:
        text: str = template.render(
            messages=[*messages], add_generation_prompt=answer, bos_token=hello.bos, eos_token=hello.eos, **more
        )
    except Exception as error:  # a template may do anything, and raise anything
        raise BadInput(
            f"the model's chat template refused these messages ({str(error)[:200] or type(error).__name__}); "
            "put them in the order that it wants"
        ) from None
    return text


async def tokens_of(engine: Templated, text: str) -> list[int]:
    """The tokens of a text in which names of control tokens mean these, but for those that are marked as words."""
    controls, tokens, done = _controls(engine), list[int](), 0
    for match in controls.pattern.finditer(text):
        tokens += await _said(engine, text[done : match.start()])
        tokens.append(controls.tokens[match[0]])
        done = match.end()
    tokens += await _said(engine, text[done:])
    begin = engine.hello.begin
    return tokens if begin is None or tokens[:1] == [begin] else [begin, *tokens]


async def _said(engine: Templated, text: str) -> list[int]:
    return await engine.tokenize(text.replace(_MARK, "")) if text else []


class _Controls:
    """The control tokens of an engine by their names."""

    def __init__(self, engine: Templated) -> None:
        named = {engine.pieces[token].decode("utf-8", "replace"): token for token in engine.controls}
        self.tokens = {name: token for name, token in named.items() if name}
        longest_first = sorted(self.tokens, key=len, reverse=True)
        self.pattern = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


_known: WeakKeyDictionary[Templated, _Controls] = WeakKeyDictionary()


def _controls(engine: Templated) -> _Controls:
    if engine not in _known:
        _known[engine] = _Controls(engine)
    return _known[engine]


def _words_only(said: Any, controls: _Controls) -> Any:
    """The same, with a mark in each name of a control token."""
    if isinstance(said, str):
        return controls.pattern.sub(lambda match: match[0][0] + _MARK + match[0][1:], said.replace(_MARK, ""))
    if isinstance(said, dict):
        return {key: _words_only(value, controls) for key, value in said.items()}
    return [_words_only(each, controls) for each in said] if isinstance(said, list) else said


@lru_cache(maxsize=16)
def _template(source: str) -> Any:
    try:
        from jinja2 import TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment
    except ImportError as error:
        raise MissingExtra("local models need the extra `local`: pip install 'weft[local]'") from error

    def refuse(why: str) -> None:
        raise TemplateError(why)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda form: datetime.now().strftime(form)}
    try:
        return environment.from_string(source)
    except TemplateError as error:
        raise BadInput(f"the model's chat template is none that can be read ({error}); use another file") from None
