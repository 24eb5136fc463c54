"""Refusals by their class: what an HTTP status, or an error in the middle of a stream, means for the one who asked.

Providers word them differently and mean the same few things: a wrong key, an unknown model, a prompt that is too long,
too much asked at once, a fault of their own. What a key looks like is taken out of their words.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

import msgspec

from weft.core.errors import KeyRefused, ModelBusy, ModelError, ModelUnavailable, PromptTooLong, UnknownModel

_SECRET = re.compile(r"\b(?:sk|pk|rk|xai|gsk|key|org)[-_][\w*.\-]{6,}|AIza[\w*.\-]{6,}|(?<=Bearer )\S+")
_MAY_BE_SECRET = re.compile(r"[\w*\-]{20,}")
"""What is taken out of words about a key, of whatever form it is."""
_TOO_LONG = re.compile(
    r"context[ _](length|window|size)|maximum context|prompt is too long|input token count .*exceeds|"
    r"exceed.*context|too many tokens|input length exceeds",
    re.IGNORECASE,
)
_BAD_KEY = re.compile(r"api key (not valid|not found|expired|invalid)|invalid api key", re.IGNORECASE)
_COUNTS = (
    re.compile(r"maximum context length is (?P<room>\d+) tokens.*?(?P<asked>\d+) tokens", re.DOTALL),
    re.compile(r"(?P<asked>\d+) tokens > (?P<room>\d+)"),
    re.compile(r"token count \(?(?P<asked>\d+)\)? exceeds .*?(?P<room>\d+)"),
    re.compile(r"(?P<asked>\d+) tokens\).*?context size \((?P<room>\d+) tokens"),
)
_STATUSES = {
    "authentication": 401,
    "invalid_api_key": 401,
    "unauthenticated": 401,
    "permission": 403,
    "not_found": 404,
    "rate_limit": 429,
    "resource_exhausted": 429,
    "overloaded": 529,
    "unavailable": 503,
    "timeout": 504,
    "deadline": 504,
    "api_error": 500,
    "server_error": 500,
    "internal": 500,
    "invalid": 400,
}


class Complaint(msgspec.Struct, frozen=True):
    """What a provider said of what is wrong: in words, and in its own code names."""

    message: str
    kind: str = ""
    detail: dict[str, Any] = {}

    @property
    def status(self) -> int:
        """The HTTP status that it would have had (an error in mid-stream comes with none)."""
        for key in ("code", "status"):
            code = self.detail.get(key)
            if isinstance(code, int) and 400 <= code < 600:
                return code
        kind = self.kind.lower()
        return next((status for word, status in _STATUSES.items() if word in kind), 500)

    @property
    def retry_after(self) -> float | None:
        """Seconds to wait, if it says so itself, as Gemini does ("34.5s")."""
        details = self.detail.get("details")
        for detail in details if isinstance(details, list) else ():
            delay = detail.get("retryDelay") if isinstance(detail, dict) else None
            if isinstance(delay, str) and re.fullmatch(r"\d+(\.\d+)?s", delay):
                return float(delay[:-1])
        return None


def complaint(error: Any) -> Complaint:
    """What the error's JSON says: `{"error": {"message", "type", "code"}}` as most write it, a bare text, or a list
    with one of these in it."""
    if isinstance(error, list) and error:
        error = error[0]
    if isinstance(error, dict) and "error" in error:
        error = error["error"]
    if isinstance(error, dict):
        kind = " ".join(str(error[key]) for key in ("type", "code", "status") if error.get(key) is not None)
        return Complaint(str(error.get("message") or error.get("detail") or error), kind, error)
    return Complaint(str(error))


class Refusing:
    """A dialect's errors: those of all are read alike."""

    key: ClassVar[str]

    def refusal(self, model: str, status: int, text: str, headers: Mapping[str, str]) -> ModelError:
        """The error that an HTTP status other than 200 means."""
        try:
            said = complaint(msgspec.json.decode(text))
        except msgspec.DecodeError:
            said = Complaint(text)
        return error_of(model, status, said, headers, self.key)

    def error(self, answer: Any, model: str) -> ModelError:
        """The error that an answer with status 200, or a frame of a stream, tells of."""
        said = complaint(answer)
        return error_of(model, said.status, said, {}, self.key)


def error_of(model: str, status: int, said: Complaint, headers: Mapping[str, str], key: str) -> ModelError:
    """The error that a complaint under this status means."""
    model = model or "the model"
    bad_key = status in (401, 403) or (status == 400 and bool(_BAD_KEY.search(said.message)))
    shown = without_secrets(said.message)
    words = f"HTTP {status}: {(_MAY_BE_SECRET.sub('[secret]', shown) if bad_key else shown)[:300]}"
    if status == 413 or (status in (400, 422, 500) and _TOO_LONG.search(f"{said.kind} {said.message}")):
        return PromptTooLong(
            f"the prompt for {model} {_counts(said)}; shorten it or open the model with a larger context"
        )
    if bad_key:
        return KeyRefused(f"{model} refused the key ({words}); set {key} to a key that may use this model")
    if status == 404:
        return UnknownModel(f"no model {model} at this address ({words}); check its name")
    if status == 402 or (status == 429 and "insufficient_quota" in said.kind):
        return ModelError(f"the account for {model} is used up ({words}); add credit, or use another key")
    wait = retry_after(headers)
    wait = said.retry_after if wait is None else wait
    if status in (429, 529) or (status == 503 and wait is not None):
        return ModelBusy(f"{model} is asked too much now ({words}); ask again later, or ask less at once", wait)
    if status >= 500 or status == 408:
        return ModelUnavailable(f"{model} cannot answer now ({words}); try again later")
    return ModelError(f"{model} refused the request ({words}); correct the messages, the tools or the schema")


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait, as a server says it: `retry-after-ms`, or `Retry-After` in seconds or as a date."""
    names = {name.lower(): value.strip() for name, value in headers.items()}
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        if re.fullmatch(r"\d+(\.\d+)?", names.get(name, "")):
            return float(names[name]) / unit
    try:
        return max(0.0, parsedate_to_datetime(names.get("retry-after", "")).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def without_secrets(text: str) -> str:
    """The text without what looks like a key."""
    return _SECRET.sub("[secret]", text)


def _counts(said: Complaint) -> str:
    asked, room = said.detail.get("n_prompt_tokens"), said.detail.get("n_ctx")
    if not (asked and room):
        found = next(filter(None, (pattern.search(said.message) for pattern in _COUNTS)), None)
        asked, room = (found["asked"], found["room"]) if found else (None, None)
    if asked and room:
        return f"has {asked} tokens, and its context holds {room}"
    return f"is too long ({without_secrets(said.message)[:200]})"
