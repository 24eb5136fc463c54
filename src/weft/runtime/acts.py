"""What the interpreter's audit events mean: which requests the code makes that caused them.

An event tells a path as it was said, with a folder that is open or not, an address, an argument vector. What it means
is resolved here as the kernel will, so that a decision is about the thing itself.
"""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any, NamedTuple

from weft.core.errors import BadInput, Denied
from weft.core.pattern import net_resource, real_path, shell_resource
from weft.core.resource import entry_path

LOOK_UP = "look-up"
"""Of a host's addresses, for whatever port: no action of its own (see `protect.looked_up`)."""


class Act(NamedTuple):
    """One request, and the path as it was said."""

    action: str
    resource: str
    said: str = ""


class _Opening(threading.local):
    """`folder`: the open folder that a path given to `os.open` starts from, about which its event is silent."""

    folder: int | None = None


opening = _Opening()


# --- files ----------------------------------------------------------------------------------------------------------

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATH_ONLY = getattr(os, "O_PATH", 0)


def _base(folder: Any) -> str:
    return os.getcwd() if folder is None or folder < 0 else f"/proc/self/fd/{folder}"


def _file(action: str, path: Any, folder: Any = None) -> list[Act]:
    """What the path names, through a symlink at its end. Nothing is asked about what is open already."""
    if isinstance(path, int):
        return []
    said = os.fsdecode("." if path is None else path)
    if not said:
        return []  # there is no such file
    try:
        return [Act(action, real_path(said, _base(folder)), said)]
    except BadInput as error:
        raise Denied(action, said, str(error)) from None


def _entry(action: str, path: Any, folder: Any = None) -> list[Act]:
    """The name itself in its folder: what is removed or renamed is a symlink and not what it points to."""
    if isinstance(path, int):
        return []
    said = os.fsdecode(path)
    try:
        return [Act(action, entry_path(said, _base(folder)), said)] if said else []
    except BadInput as error:
        raise Denied(action, said, str(error)) from None


def _open(path: Any, mode: Any = None, flags: Any = 0) -> list[Act]:
    flags = flags if isinstance(flags, int) else 0
    if flags & _PATH_ONLY:
        return []  # a handle that nothing can be read from
    folder = opening.folder if mode is None else None
    mode = mode if isinstance(mode, str) else ""
    writes = bool(flags & _WRITING) or any(letter in mode for letter in "wax+")
    reads = not writes or "+" in mode or bool(flags & os.O_RDWR)
    return [
        act
        for action, does in (("file.read", reads), ("file.write", writes)) if does
        for act in _file(action, path, folder)
    ]  # fmt: skip


def _make_folder(path: Any, mode: Any = 0, folder: Any = None) -> list[Act]:
    return [act for act in _entry("file.write", path, folder) if not os.path.lexists(act.resource)]


def _rename(source: Any, target: Any, folder: Any = None, target_folder: Any = None) -> list[Act]:
    """What is moved can be read at its new place."""
    return [
        *_entry("file.read", source, folder),
        *_entry("file.delete", source, folder),
        *_entry("file.write", target, target_folder),
    ]


def _link(source: Any, target: Any, folder: Any = None, target_folder: Any = None) -> list[Act]:
    """What is linked can be read and written at its new place."""
    found = _file("file.read", source, folder) + _file("file.write", source, folder)
    return found + _entry("file.write", target, target_folder)


def _database(path: Any, *_: Any) -> list[Act]:
    said = os.fsdecode(path)
    write = True
    if said.startswith("file:"):
        from urllib.parse import parse_qs, unquote, urlsplit

        parts = urlsplit(said)
        mode = parse_qs(parts.query).get("mode", [""])[-1]
        said, write = ("" if mode == "memory" else unquote(parts.path)), mode != "ro"
    if said in ("", ":memory:"):
        return []
    return _open(said, "r+" if write else "r")


# --- programs -------------------------------------------------------------------------------------------------------


def _run(executable: Any, args: Any = (), cwd: Any = None, env: Any = None) -> list[Act]:
    words = [args] if isinstance(args, str | bytes | os.PathLike) else list(args or ())
    argv = [os.fsdecode(word) for word in words] or [os.fsdecode(executable)]
    if executable is not None:
        argv[0] = os.fsdecode(executable)  # what runs, whatever it is told that it is called
    argv[0] = _found(argv[0], env)
    folder = os.getcwd() if cwd is None else os.path.join(os.getcwd(), os.fsdecode(cwd))
    try:
        return [Act("shell.run", shell_resource(argv, folder))]
    except BadInput as error:
        raise Denied("shell.run", repr(argv), str(error)) from None


def _found(command: str, env: Any) -> str:
    """The command; if it is searched for along another PATH than this interpreter's, its place there."""
    if "/" in command or env is None:
        return command
    path = env.get("PATH", env.get(b"PATH", os.defpath))
    if os.fsdecode(path) == os.environ.get("PATH"):
        return command
    import shutil

    return shutil.which(command, path=os.fsdecode(path)) or command


def _spawn(_: Any, path: Any, args: Any, env: Any = None) -> list[Act]:
    return _run(path, args, None, env)


def _execute(path: Any, args: Any, env: Any = None) -> list[Act]:
    return _run(path, args, None, env)


def _shell(command: Any, *_: Any) -> list[Act]:
    return _run(None, ["/bin/sh", "-c", os.fsdecode(command)])


def _signal(process: int, number: int, group: bool = False) -> list[Act]:
    """To itself and to its children a program may say what it likes; to others, what `kill` may say to them."""
    whom = -process if group else process
    if number == 0 or whom in (0, os.getpid()) or _parent(abs(whom)) == os.getpid():
        return []
    return [Act("shell.run", shell_resource(["kill", f"-{int(number)}", "--", str(whom)], "/"))]


def _parent(process: int) -> int:
    try:
        with open(f"/proc/{process}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return os.getpid()  # there is nobody to signal, or nobody who could tell


# --- the network ----------------------------------------------------------------------------------------------------

names: dict[str, set[str]] = {}
"""Address -> names that were looked up and led to it, in this interpreter: a connection tells only the address."""
MOST_NAMES = 4096
_SPECIAL = {"": "0.0.0.0", "<broadcast>": "255.255.255.255", "<any>": "0.0.0.0"}


def remember(host: Any, found: Any) -> None:
    """What a look-up has found."""
    name = os.fsdecode(host)
    for *_, address in found:
        known = names.pop(str(address[0]), set())
        names[str(address[0])] = known | {name}
    while len(names) > MOST_NAMES:
        names.pop(next(iter(names)))


def _connect(sock: Any, address: Any = None, *_: Any) -> list[Act]:
    family = getattr(sock, "family", None)
    if isinstance(address, str | bytes) or family == socket.AF_UNIX:
        return _socket_file(address)
    if family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return []  # the kernel itself; or no address at all, which it refuses
    host, port = os.fsdecode(address[0]), address[1]
    if family == socket.AF_INET6 and not host:
        host = "::"
    host = _SPECIAL.get(host, host)
    if _number(host):
        return _peer(host, port)
    remember(host, socket.getaddrinfo(host, port, family))  # the C library would do so itself
    return [act for known, called in list(names.items()) if host in called for act in _peer(known, port)]


def _peer(address: str, port: Any) -> list[Act]:
    try:
        return [Act("net.connect", net_resource(address, port, sorted(names.get(address, ()))))]
    except BadInput as error:
        raise Denied("net.connect", f"{address}:{port}", str(error)) from None


def _socket_file(address: Any) -> list[Act]:
    """A socket of this machine is a file; one without a file is written `/@name`."""
    if not isinstance(address, str | bytes) or not address:
        return []
    path = os.fsdecode(address)
    if path[0] == "\0":
        return [Act("file.write", f"/@{path[1:].replace('/', '@')}")]
    return _file("file.write", path)


def _look_up(host: Any, port: Any = None, *_: Any) -> list[Act]:
    name = "" if host is None else os.fsdecode(host)
    if not name or _number(name) or name in ("localhost", socket.gethostname()):
        return []
    try:
        number = socket.getservbyname(port) if isinstance(port, str) and not port.isdecimal() else int(port or 0)
    except OSError:
        number = 0
    try:
        return [Act("net.connect" if number else LOOK_UP, net_resource(name, number))]
    except BadInput as error:
        raise Denied("net.connect", f"{name}:{number}", str(error)) from None


def _number(host: str) -> bool:
    try:
        ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


# --- all of them ----------------------------------------------------------------------------------------------------

EVENTS: dict[str, Callable[..., list[Act]]] = {
    "open": _open,
    "os.listdir": lambda path=None: _file("file.read", path),
    "os.scandir": lambda path=None: _file("file.read", path),
    "os.mkdir": _make_folder,
    "os.rmdir": lambda path, folder=None: _entry("file.delete", path, folder),
    "os.remove": lambda path, folder=None: _entry("file.delete", path, folder),
    "os.truncate": lambda path, *_: _file("file.write", path),
    "os.chmod": lambda path, mode=0, folder=None: _file("file.write", path, folder),
    "os.chown": lambda path, user=0, group=0, folder=None: _file("file.write", path, folder),
    "os.chflags": lambda path, *_: _file("file.write", path),
    "os.utime": lambda path, times=None, ns=None, folder=None: _file("file.write", path, folder),
    "os.setxattr": lambda path, *_: _file("file.write", path),
    "os.removexattr": lambda path, *_: _file("file.write", path),
    "os.rename": _rename,
    "os.link": _link,
    "os.symlink": lambda source, target, folder=None: _entry("file.write", target, folder),
    "sqlite3.connect": _database,
    "subprocess.Popen": _run,
    "os.exec": _execute,
    "os.posix_spawn": _execute,
    "os.spawn": _spawn,
    "os.system": _shell,
    "os.startfile": lambda path, *_: _run(path),
    "os.kill": _signal,
    "os.killpg": lambda group, number: _signal(group, number, group=True),
    "pty.spawn": lambda argv, *_: _run(None, argv),
    "socket.connect": _connect,
    "socket.sendto": _connect,
    "socket.sendmsg": _connect,
    "socket.bind": _connect,
    "socket.getaddrinfo": _look_up,
    "socket.gethostbyname": _look_up,
    "socket.gethostbyaddr": _look_up,
}
