"""Text as patterns compare it: the two forms of a name, and globs that match in linear time."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from unicodedata import normalize

from weft.core.errors import BadInput

LONGEST = 4096
"""Characters of a pattern or of a resource that is a path or a name; longer ones are refused."""

_WILD = re.compile(r"[*?\[]")
_ESCAPED = re.compile(r"\[([*?\[])\]")
_TOKEN = re.compile(r"\[[!^]?\]?[^\]/]*\]|\*+|\?|[^*?\[]+|\[")
_UNSEEN = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def nfc(text: str) -> str:
    """The form in which an allow compares: canonically equal texts are the same."""
    return text if text.isascii() else normalize("NFC", text)


def fold(text: str) -> str:
    """The form in which a deny compares: case, compatibility forms (fullwidth letters, ligatures) and characters
    that nobody sees make no difference, since some file system, resolver or reader takes them as the same."""
    if text.isascii():
        return text.lower()
    return normalize("NFKC", normalize("NFKC", _UNSEEN.sub("", text)).casefold())


def checked(text: str, what: str) -> str:
    """The text, or BadInput for what no file, host or program can be called: empty, NUL, lone surrogates, too long."""
    if not text:
        raise BadInput(f"{what} is empty")
    if len(text) > LONGEST:
        raise BadInput(f"{what} is {len(text)} characters long: at most {LONGEST} are allowed ({text[:40]!r}...)")
    if "\0" in text:
        raise BadInput(f"{what} {text!r} holds a NUL character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadInput(f"{what} {text!r} is not valid Unicode (a lone surrogate)") from None
    return text


def literal(part: str) -> str | None:
    """The text that a pattern without wildcards stands for, else None; `[*]`, `[?]` and `[[]` are no wildcards."""
    if not _WILD.search(part):
        return part
    return None if _WILD.search(_ESCAPED.sub("", part)) else _ESCAPED.sub(r"\1", part)


def escape(text: str) -> str:
    """The pattern that matches exactly this text."""
    return _WILD.sub(r"[\g<0>]", text)


def ends(part: str) -> tuple[str, str]:
    """What a component with wildcards surely begins and ends with: `test_` and `.py` for `test_*.py`."""
    tokens = [] if part == "**" else _TOKEN.findall(part)
    if not tokens:
        return "", ""
    first, last = tokens[0], tokens[-1]
    return "" if _WILD.match(first) else first, "" if _WILD.match(last) else last


def _class(token: str, form: Callable[[str], str]) -> str:
    body = token[1:-1]
    negated = body[:1] in ("!", "^")
    inside = re.sub(r"[\\\[\]&~|^]", r"\\\g<0>", body[1:] if negated else body)
    if form is fold:
        inside += inside.lower()
    return f"[^/{inside}]" if negated else f"(?!/)[{inside}]"


def _component(part: str, form: Callable[[str], str]) -> str:
    """A component's regular expression. All stars but the last are atomic: taking the first fit is never wrong."""
    runs = [""]
    for token in _TOKEN.findall(part):
        if token[0] == "*":
            runs.append("")
        elif token == "?":
            runs[-1] += "[^/]"
        elif token[0] == "[" and len(token) > 2:
            runs[-1] += _class(token, form)
        else:
            runs[-1] += re.escape(form(token))
    if len(runs) == 1:
        return runs[0]
    return runs[0] + "".join(f"(?>[^/]*?{run})" for run in runs[1:-1]) + f"[^/]*{runs[-1]}"


def glob_source(parts: Sequence[str], form: Callable[[str], str], below: bool) -> str:
    """The regular expression of a glob's components: `*`, `?`, `[...]` within one, `**` for any number of them;
    with `below` also of everything under what they match."""
    while parts and parts[-1] == "**":
        parts, below = parts[:-1], True
    runs: list[list[str]] = [[]]
    for part in parts:
        if part == "**":
            runs.append([])
        else:
            runs[-1].append(_component(part, form))
    source = "/".join(runs[0]) + ("/" if runs[0] and len(runs) > 1 else "")
    for run in runs[1:-1]:
        if run:
            source += f"(?>(?:[^/]*/)*?{'/'.join(run)}/)"
    if len(runs) > 1:
        source += "(?:[^/]*/)*" + "/".join(runs[-1])
    return source + ("(?:/.*)?" if below else "")


@lru_cache(maxsize=65536)
def _compiled(source: str) -> re.Pattern[str]:
    return re.compile(source, re.DOTALL)


def glob(parts: Sequence[str], form: Callable[[str], str] = nfc, below: bool = False) -> re.Pattern[str]:
    """The compiled glob, to be used with `fullmatch`. Raises BadInput for a class such as `[z-a]`."""
    try:
        return _compiled(glob_source(parts, form, below))
    except re.error as error:
        raise BadInput(f"the pattern {'/'.join(parts)!r} is not a glob: {error}") from None


def check_stars(parts: Sequence[str], text: str) -> None:
    """Raise BadInput for `**` inside a component: it stands for whole components."""
    for part in parts:
        if part != "**" and "**" in part:
            raise BadInput(
                f"the pattern {text!r} has '**' inside {part!r}: '**' stands alone between slashes; "
                f"write {part.replace('**', '**/*')!r} for any depth"
            )
