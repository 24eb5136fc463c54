"""From what is said (a path, a URL, a command) to what is asked about: a request in the normal form of its kind."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from weft.core.capability import ACTIONS, Capability, Request, Verdict, actions_of
from weft.core.errors import BadInput
from weft.core.pattern import exact, net_resource, real_path, shell_resource, url_resource
from weft.core.pattern.shell import split


def request(action: str, said: str | Sequence[str], folder: str, names: Iterable[str] = ()) -> Request:
    """The request for doing `action` to what a caller names, seen from `folder`: a path, a URL or HOST:PORT, a list of
    arguments (or its words in one text), or a name. `names`: hosts that the address of a connection was resolved from.
    Raises BadInput for what means nothing."""
    kind = ACTIONS[action]
    if kind == "shell":
        return Request(action, shell_resource(split(said) if isinstance(said, str) else said, folder))
    if not isinstance(said, str):
        raise BadInput(f"{action} is done to one thing, not to {said!r}")
    if kind == "file":
        return Request(action, real_path(said, folder))
    if kind == "net":
        return Request(action, _place(said, names))
    return Request(action, said)


def requests(action: str, said: str | Sequence[str], folder: str) -> list[Request]:
    """The same for an action's full or short name, or a group of them (`file`)."""
    return [request(each, said, folder) for each in actions_of([action], action)]


def _place(said: str, names: Iterable[str]) -> str:
    known = list(names)
    if not known:
        return url_resource(said if "://" in said else f"tcp://{said}")
    host, _, port = said.rpartition(":")
    if not port.isdecimal():
        raise BadInput(f"{said!r} is no address: write HOST:PORT")
    return net_resource(host, int(port), known)


def entry_path(path: str, folder: str) -> str:
    """The real path of a name in its folder: of a symlink its own, not that of what it points to. What is deleted or
    moved is a name. Raises BadInput as `real_path` does."""
    place, _, name = path.rstrip("/").rpartition("/")
    if name in ("", ".", ".."):
        return real_path(path, folder)
    parent = real_path(place or ("/" if path.startswith("/") else "."), folder)
    return f"{parent.rstrip('/')}/{name}"


def capability_for(asked: Request, effect: Verdict, issuer: str) -> Capability:
    """The capability that speaks of exactly this request."""
    pattern = exact(ACTIONS[asked.action], asked.resource)
    return Capability(actions=(asked.action,), patterns=(pattern,), effect=effect, issuer=issuer)
