"""System calls that no job makes: a filter in the kernel's own language (seccomp(2), classic BPF).

Denied calls fail with EPERM. Those that reach the kernel's less guarded parts (BPF programs, io_uring, keys,
performance events, modules), other processes (ptrace and its kin), the tree of mounts, and new namespaces, in which
much would be reachable again. `clone3` fails with ENOSYS, for its flags lie in memory that a filter can't read:
libraries then use `clone`, whose flags are looked at. `sockets=False` denies sockets and System V's shared memory,
queues and semaphores too, where no namespace of the job's own holds them. `modes=False` denies changing permissions,
owners and attributes by path, where the job's user has files elsewhere."""

from __future__ import annotations

import errno
import platform
import struct

_X86 = {
    "ptrace": 101, "syslog": 103, "personality": 135, "pivot_root": 155, "_sysctl": 156, "adjtimex": 159, "chroot": 161,
    "acct": 163, "settimeofday": 164, "mount": 165, "umount2": 166, "swapon": 167, "swapoff": 168, "reboot": 169,
    "sethostname": 170, "setdomainname": 171, "iopl": 172, "ioperm": 173, "create_module": 174, "init_module": 175,
    "delete_module": 176, "quotactl": 179, "lookup_dcookie": 212, "clock_settime": 227,
    "kexec_load": 246, "add_key": 248, "request_key": 249, "keyctl": 250, "migrate_pages": 256,
    "unshare": 272, "move_pages": 279, "perf_event_open": 298, "fanotify_init": 300, "name_to_handle_at": 303,
    "open_by_handle_at": 304, "clock_adjtime": 305, "setns": 308, "process_vm_readv": 310, "process_vm_writev": 311,
    "kcmp": 312, "finit_module": 313, "kexec_file_load": 320, "bpf": 321, "userfaultfd": 323,
}  # fmt: skip
_ARM = {
    "acct": 89, "umount2": 39, "mount": 40, "pivot_root": 41, "chroot": 51, "quotactl": 60, "personality": 92,
    "unshare": 97, "kexec_load": 104, "init_module": 105, "delete_module": 106, "clock_settime": 112, "syslog": 116,
    "ptrace": 117, "reboot": 142, "sethostname": 161, "setdomainname": 162, "settimeofday": 170, "adjtimex": 171,
    "add_key": 217, "request_key": 218, "keyctl": 219, "swapon": 224, "swapoff": 225,
    "migrate_pages": 238, "move_pages": 239, "perf_event_open": 241, "fanotify_init": 262, "name_to_handle_at": 264,
    "open_by_handle_at": 265, "clock_adjtime": 266, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
    "kcmp": 272, "finit_module": 273, "bpf": 280, "userfaultfd": 282, "kexec_file_load": 294,
}  # fmt: skip
_BOTH = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "open_tree_attr": 467,
}  # fmt: skip
_MACHINES = {
    "x86_64": (0xC000003E, _X86, {"clone": 56, "ioctl": 16}),
    "aarch64": (0xC00000B7, _ARM, {"clone": 220, "ioctl": 29}),
}
_SHARED = {  # socket, shmget, semget, msgget, mq_open
    "x86_64": (41, 29, 64, 68, 240),
    "aarch64": (198, 194, 190, 186, 180),
}
_MODES = {  # chmod, chown, lchown, setxattr, lsetxattr, removexattr, lremovexattr, fchmodat, fchownat, and fchmodat2,
    "x86_64": (90, 92, 94, 188, 189, 197, 198, 268, 260, 452, 463, 466),  # setxattrat, removexattrat
    "aarch64": (5, 6, 14, 15, 53, 54, 452, 463, 466),
}
_CLONE3 = 435
_NEW_NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000


def supported() -> bool:
    return platform.machine() in _MACHINES


def program(sockets: bool, modes: bool = True) -> bytes:
    """The filter, as an array of `struct sock_filter`."""
    machine = platform.machine()
    audit, denied, known = _MACHINES[machine]
    more = (*(() if sockets else _SHARED[machine]), *(() if modes else _MODES[machine]))
    out = [_load(4), _jump(0x15, audit, 1, 0), _give(_KILL), _load(0)]
    if machine == "x86_64":
        out += [_jump(0x35, 0x40000000, 0, 1), _give(_ERROR | errno.EPERM)]  # the x32 way to the same calls
    for number in [*denied.values(), *_BOTH.values(), *more]:
        out += [_jump(0x15, number, 0, 1), _give(_ERROR | errno.EPERM)]
    out += [_jump(0x15, _CLONE3, 0, 1), _give(_ERROR | errno.ENOSYS)]
    out += [_jump(0x15, known["clone"], 0, 4), _load(16), _jump(0x45, _NEW_NAMESPACES, 0, 1)]
    out += [_give(_ERROR | errno.EPERM), _give(_ALLOW)]
    out += [_jump(0x15, known["ioctl"], 0, 5), _load(24), _jump(0x15, _TIOCSTI, 1, 0), _jump(0x15, _TIOCLINUX, 0, 1)]
    out += [_give(_ERROR | errno.EPERM), _give(_ALLOW)]
    return b"".join([*out, _give(_ALLOW)])


def _load(offset: int) -> bytes:
    return struct.pack("=HBBI", 0x20, 0, 0, offset)


def _jump(code: int, value: int, yes: int, no: int) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _give(value: int) -> bytes:
    return struct.pack("=HBBI", 0x06, 0, 0, value)
