"""What a generation may say: a JSON schema, a regular expression or a grammar, as a set of tokens for each place.

    grammar = Grammar(engine, schema={"type": "object", ...})
    told, = await engine.step([Feed(sequence, prompt, allow=grammar.allow())])
    grammar.accept(told.tokens[0])

It stands beside the engine, not in it: `allow` is plain bytes, so any engine can be held to it, and what was accepted
can be taken back (`rollback`) when tokens are. The grammars are those of llguidance.
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakKeyDictionary

from weft.core.errors import BadInput, MissingExtra

COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""How JSON is spaced: in one way, so that a small model can't lose itself in blanks."""


class Worded(Protocol):
    """An engine that tells what its tokens are."""

    @property
    def pieces(self) -> list[bytes]:
        """The bytes of each token."""
        ...

    @property
    def controls(self) -> frozenset[int]:
        """The tokens that mean something else than their words."""
        ...

    @property
    def end(self) -> frozenset[int]: ...


class Grammar:
    """Where one generation is in its grammar."""

    def __init__(
        self,
        engine: Worded,
        *,
        schema: dict[str, Any] | None = None,
        regex: str | None = None,
        lark: str | None = None,
    ) -> None:
        """One of `schema` (JSON), `regex`, or `lark` (a grammar in Lark's notation). Raises BadInput for none, for
        several, and for one that cannot be understood; MissingExtra without the extra `local`."""
        if sum(each is not None for each in (schema, regex, lark)) != 1:
            raise BadInput("a grammar is one of schema, regex and lark")
        from_words = _matcher()
        if schema is not None:
            try:
                text = from_words.grammar_from_json_schema(schema)
            except ValueError as error:
                raise BadInput(f"the schema cannot be enforced: {error}") from None
        elif regex is not None:
            text = from_words.grammar_from_regex(regex)
        else:
            text = from_words.grammar_from_lark(lark)
        self._matcher = from_words(_tokenizer(engine), text, log_level=0)
        self._check("the grammar cannot be enforced")

    def allow(self) -> bytes:
        """Which tokens may come next: see `Feed.allow`. Where the text may end, so may the tokens that end it."""
        mask: bytes = self._matcher.compute_bitmask()
        self._check("the grammar came to an end")
        return mask

    def accept(self, token: int) -> None:
        """The next token is this one. Raises BadInput if it may not be."""
        if not self._matcher.consume_token(token):
            self._check(f"token {token} does not fit the grammar here")

    @property
    def ignored(self) -> list[str]:
        """What of the schema is not enforced, in words; only a schema that is `lenient` has any."""
        return [*self._matcher.get_grammar_warnings()]

    def rollback(self, count: int) -> None:
        """Take the last `count` tokens back."""
        if count and not self._matcher.rollback(count):
            self._check(f"{count} tokens cannot be taken back")

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as there is no choice."""
        return [*self._matcher.compute_ff_tokens()]

    def copy(self) -> Grammar:
        """Another generation that is where this one is."""
        twin = object.__new__(Grammar)
        twin._matcher = self._matcher.deep_copy()
        return twin

    @property
    def whole(self) -> bool:
        """Whether what was said so far is a whole text of the grammar."""
        return bool(self._matcher.is_accepting())

    @property
    def ended(self) -> bool:
        """Whether nothing more may be said."""
        return bool(self._matcher.is_stopped())

    def _check(self, what: str) -> None:
        if self._matcher.is_error():
            reason = self._matcher.get_error().strip().splitlines()[0][:300]
            raise BadInput(f"{what}: {reason}")


def for_answers(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as models are held to it: spaced in one way, without properties that it does not name (a small model
    would make some up for ever), and without what cannot be enforced (see `Grammar.ignored`)."""
    return {**_closed(schema), "x-guidance": {**COMPACT, "lenient": True}}


_NAMED = ("properties", "$defs", "definitions")
_VALUES = ("enum", "const", "default", "examples")
_OPEN = ("additionalProperties", "patternProperties", "unevaluatedProperties", "propertyNames", "allOf", "$ref")


def _closed(schema: Any, part: bool = False) -> Any:
    """`part`: it is one of several that an object must fit together."""
    if isinstance(schema, list):
        return [_closed(each, part) for each in schema]
    if not isinstance(schema, dict):
        return schema
    closed: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _NAMED and isinstance(value, dict):
            closed[key] = {name: _closed(each) for name, each in value.items()}
        else:
            closed[key] = value if key in _VALUES else _closed(value, key == "allOf")
    if isinstance(schema.get("properties"), dict) and not part and not schema.keys() & {*_OPEN}:
        closed["additionalProperties"] = False
    return closed


_tokenizers: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()


def _matcher() -> Any:
    try:
        from llguidance import LLMatcher
    except ImportError:
        raise MissingExtra("grammars need the extra `local`: pip install 'weft[local]'") from None
    return LLMatcher


def _tokenizer(engine: Worded) -> Any:
    """llguidance's view of an engine's tokens, made once (about a second)."""
    found = _tokenizers.get(engine)
    if found is None:
        import llguidance

        end = sorted(engine.end)
        words = llguidance.TokenizerWrapper(_Words(engine, end[0]))
        found = _tokenizers[engine] = llguidance.LLTokenizer(words, eos_token=end)
    return found


class _Words:
    """The tokens as llguidance wants them. Forced texts are cut into the longest tokens that fit."""

    def __init__(self, engine: Worded, end: int) -> None:
        controls = engine.controls | engine.end
        self.tokens = [b"\xff" + piece if n in controls else piece for n, piece in enumerate(engine.pieces)]
        self.eos_token_id = end
        self.bos_token_id = None
        self.special_token_ids = sorted(controls)
        self._longest: dict[bytes, int] = {}
        for n, piece in enumerate(engine.pieces):
            if piece and n not in controls:
                self._longest.setdefault(piece, n)
        self._most = max(map(len, self._longest))

    def __call__(self, text: bytes | str) -> list[int]:
        words = text.encode() if isinstance(text, str) else text
        tokens: list[int] = []
        while words:
            for size in range(min(self._most, len(words)), 0, -1):
                token = self._longest.get(words[:size])
                if token is not None:
                    tokens.append(token)
                    words = words[size:]
                    break
            else:
                words = words[1:]
        return tokens
