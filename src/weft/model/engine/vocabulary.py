"""Texts to tokens and back by the vocabulary of a model file, for engines that have no tokenizer of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from weft.core.errors import BadInput, MissingExtra
from weft.model.engine.weights import Tokens, letter


class Vocabulary:
    """The byte-pair encoding that a file describes."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._bytes = {letter(byte): byte for byte in range(256)}
        controls = sorted((tokens.texts[token] for token in tokens.controls), key=len, reverse=True)
        self._controls = {tokens.texts[token]: token for token in tokens.controls}
        self._split = re.compile("|".join(map(re.escape, controls)) or r"(?!)")
        self._merge = _merger(tokens)

    def tokens(self, text: str, special: bool = False) -> list[int]:
        """`special`: the names of control tokens mean those tokens."""
        words = text.encode("utf-8", "replace").decode()  # half a surrogate pair is no character
        if not special:
            return self._words(words)
        found, done = [], 0
        for match in self._split.finditer(words):
            found += [*self._words(words[done : match.start()]), self._controls[match[0]]]
            done = match.end()
        return found + self._words(words[done:])

    def _words(self, text: str) -> list[int]:
        return [*self._merge.encode(text, add_special_tokens=False).ids] if text else []

    def text(self, tokens: Iterable[int]) -> bytes:
        """The bytes that the tokens stand for. Raises BadInput for numbers that are no tokens."""
        return b"".join(map(self._piece, tokens))

    def _piece(self, token: int) -> bytes:
        if not 0 <= token < len(self._tokens.texts):
            raise BadInput(f"{token} is none of the {len(self._tokens.texts)} tokens of this model")
        text = self._tokens.texts[token]
        if self._tokens.types[token] == 3:
            return text.encode()
        return bytes(self._bytes[character] for character in text)


def _merger(tokens: Tokens) -> Any:
    try:
        from tokenizers import Tokenizer, models, pre_tokenizers
    except ImportError as error:
        raise MissingExtra("the twin needs the extra `torch`: pip install 'weft[torch]'") from error
    rules: dict[str, list[Any]] = {
        "default": [],
        "gpt-2": [],
        "smollm": [pre_tokenizers.Digits(individual_digits=True)],
    }
    if tokens.pre not in rules:
        raise BadInput(f"the model splits texts by the rule {tokens.pre!r}; the twin knows {', '.join(rules)}")
    merges = [(one, other) for one, _, other in (pair.partition(" ") for pair in tokens.merges)]
    merger = Tokenizer(models.BPE({text: token for token, text in enumerate(tokens.texts)}, merges))
    merger.pre_tokenizer = pre_tokenizers.Sequence(
        [*rules[tokens.pre], pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    return merger
