"""From what is said (a path, a URL, a command) to what is asked about: a request in the normal form of its kind."""

from __future__ import annotations

from collections.abc import Iterable

from weft.core.capability import ACTIONS, Capability, Request, Verdict
from weft.core.errors import BadInput
from weft.core.pattern import exact, net_resource, real_path, shell_resource, url_resource
from weft.core.pattern.shell import split


def request(action: str, said: str, folder: str, names: Iterable[str] = ()) -> Request:
    """The request for doing `action` to what `said` means in `folder`. `names`: hosts that the address of a connection
    was resolved from. Raises BadInput for what means nothing."""
    match ACTIONS[action]:
        case "file":
            return Request(action, real_path(said, folder))
        case "shell":
            return Request(action, shell_resource(split(said), folder))
        case "net":
            if "://" in said:
                return Request(action, url_resource(said))
            host, _, port = said.rpartition(":")
            if not host or not port.isdecimal():
                raise BadInput(f"{said!r} is no address: write HOST:PORT or a URL")
            return Request(action, net_resource(host, int(port), names))
    return Request(action, said)


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
