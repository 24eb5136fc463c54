"""Builds the landlock wall and starts a job in it: run as a program of its own, it imports nothing of Weft.

It stays as the job's parent: what the job starts and leaves behind becomes its child (it is a subreaper), so that the
end of the job, of it or of Weft is the end of all that. Its plan is JSON in the descriptor that its argument names.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import resource
import signal
import stat
import sys
from types import FrameType
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 8, 22, 24
_PR_SET_SUBREAPER, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 36, 38, 47
_DAC_READ_SEARCH = 2
_CREATE, _ADD, _RESTRICT = 444, 445, 446
_FILE_ONLY = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 14 | 1 << 15  # execute, write, read, truncate, ioctl: what a file can have


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("access", ctypes.c_uint64), ("parent", ctypes.c_int32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("program", ctypes.c_char_p))


def abi() -> int:
    """The version of Landlock that this kernel enforces; 0 for none."""
    return max(0, int(_libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1))))


def main() -> None:
    with open(int(sys.argv[1])) as file:
        plan = json.load(file)
    parent = plan["parent"]
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    _prctl(_PR_SET_SUBREAPER, 1)
    if os.getppid() != parent and not plan["grouped"]:
        sys.exit(1)  # it died before it could be heard of
    signal.signal(signal.SIGTERM, _over(plan["user"]))
    first = os.fork()
    if not first:
        _child(plan)
    with open(f"/proc/{first}/stat") as file, open(plan["notes"], "a") as notes:
        notes.write(f"{first} {file.read().rpartition(')')[2].split()[19]}\n")
    os.close(plan["status"])
    for stream in (0, 1, 2):
        os.close(stream)  # their other ends see the end of the job, not of its keeper
    while True:
        pid, status = os.wait()
        if pid == first:
            break
    _clear(plan["user"])
    code = os.waitstatus_to_exitcode(status)
    os._exit(code if code >= 0 else 128 - code)


def _child(plan: dict[str, Any]) -> None:
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        os.setsid()
        os.chdir(plan["cwd"])
        for name, value in plan["limits"].items():
            number = getattr(resource, name)
            hard = resource.getrlimit(number)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(number, (value, value))
        rules = _rules(plan["paths"])  # opened while it may: a user that nobody is can't come through closed folders
        _drop(plan["user"], plan["look"])
        _prctl(_PR_SET_NO_NEW_PRIVS, 1)
        _check(_libc.syscall(_RESTRICT, rules, 0), "landlock")
        os.close(rules)
        filters = base64.b64decode(plan["filter"])
        _check(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(_Filter(len(filters) // 8, filters)), 0, 0), "seccomp")
        os.write(plan["status"], b"begun")
        os.set_inheritable(plan["status"], False)
    except BaseException as error:
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
        os._exit(1)
    try:
        os.execvpe(plan["argv"][0], plan["argv"], plan["env"])
    except BaseException as error:
        os.write(2, f"{plan['argv'][0]}: {error}\n".encode())
        os._exit(127)


def _drop(user: int | None, look: bool) -> None:
    """Another user if there is one to be, and no capability, now or after an exec; with `look` the one to come through
    closed folders to what Landlock lets it read."""
    if os.geteuid() != 0:
        return
    kept = 1 << _DAC_READ_SEARCH if look and user is not None else 0
    for capability in range(64):
        if not kept >> capability & 1:
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    if user is None:
        return
    if kept:
        _prctl(_PR_SET_KEEPCAPS, 1)
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    if kept:
        header = (ctypes.c_uint32 * 2)(0x20080522, 0)
        _check(_libc.capset(header, (ctypes.c_uint32 * 6)(kept, kept, kept, 0, 0, 0)), "capset")
        _check(_libc.prctl(_PR_CAP_AMBIENT, 2, _DAC_READ_SEARCH, 0, 0), "capability")


def _rules(paths: list[tuple[str, str, int]]) -> int:
    """What may be done beneath which path, as a descriptor of the kernel's."""
    version = abi()
    if not version:
        raise OSError("this kernel has no Landlock")
    every = (1 << 13) - 1
    every |= (1 << 13 if version >= 2 else 0) | (1 << 14 if version >= 3 else 0) | (1 << 15 if version >= 5 else 0)
    rules = _Ruleset(every, 3 if version >= 4 else 0, 3 if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    handle = _check(_libc.syscall(_CREATE, ctypes.byref(rules), ctypes.c_size_t(size), 0), "landlock")
    kinds = {
        "read": 1 << 0 | 1 << 2 | 1 << 3,
        "list": 1 << 3,
        "use": 1 << 1 | 1 << 2 | 1 << 14,
        "write": every & ~(1 << 15),
    }
    for kind, path, place in paths:
        if place < 0:
            try:
                place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
        access = kinds[kind] & every
        if not stat.S_ISDIR(os.fstat(place).st_mode):
            access &= _FILE_ONLY
        beneath = _Beneath(access, place)
        _check(_libc.syscall(_ADD, handle, 1, ctypes.byref(beneath), 0), f"landlock: {path}")
        os.close(place)
    return handle


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), "prctl")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _over(user: int | None) -> Any:
    def end(signum: int, frame: FrameType | None) -> None:
        _clear(user)
        os._exit(128 + signal.SIGKILL)

    return end


def _clear(user: int | None) -> None:
    """End everything below: as the job's user all at once, else stop all, then kill all, until none is left."""
    while True:
        if user is not None:
            _kill_all_of(user)
        below = _descendants()
        for number in (signal.SIGSTOP, signal.SIGKILL) if user is None else (signal.SIGKILL,):
            for pid in below:
                try:
                    os.kill(pid, number)
                except OSError:
                    pass
        try:
            while os.waitpid(-1, os.WNOHANG if user is None else 0)[0]:
                pass
        except ChildProcessError:
            return


def _kill_all_of(user: int) -> None:
    killer = os.fork()
    if not killer:
        try:
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    try:
        os.waitpid(killer, 0)
    except ChildProcessError:
        pass


def _descendants() -> list[int]:
    found, left = [], [os.getpid()]
    while left:
        pid = left.pop()
        try:
            for thread in os.listdir(f"/proc/{pid}/task"):
                with open(f"/proc/{pid}/task/{thread}/children") as file:
                    below = [int(word) for word in file.read().split()]
                found += below
                left += below
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
