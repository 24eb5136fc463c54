"""What a hostile program does, as text: it prints ESCAPED if it got what it wanted.

`{outside}` is a folder of the host with a secret in it, `{port}` a listening port of the host's, `{socket}` a
listening Unix socket, `{parent}` the process that started the sandbox, `{base}` the folder of all jobs' scratch
folders, `{workspace}` the workspace, `{code}` a text that only the host's environment has."""

from __future__ import annotations

READING = {
    "the shadow file": "print('ESCAPED', open('/etc/shadow').read())",
    "the host's home": """
import os
for top in ('/root', '/home', os.path.expanduser('~root')):
    for where, folders, files in os.walk(top):
        if any(name.startswith(('.bash', '.profile', '.ssh', '.netrc', '.gitconfig')) for name in folders + files):
            print('ESCAPED', where, files)
raise SystemExit('found nothing')
""",
    "a file outside": "print('ESCAPED', open('{outside}/secret.txt').read())",
    "a file outside, through a link": """
import os
os.symlink('{outside}/secret.txt', 'link')
print('ESCAPED', open('link').read())
""",
    "a file outside, by a hard link": """
import os
os.link('{outside}/secret.txt', 'link')
print('ESCAPED', open('link').read())
""",
    "the environment": """
import os
found = ' '.join(os.environ.values())
for place in os.listdir('/proc') if os.path.isdir('/proc') and os.access('/proc', os.R_OK) else []:
    if place.isdigit():
        try:
            found += open(f'/proc/{place}/environ').read()
        except OSError:
            pass
if '{code}' in found:
    print('ESCAPED')
raise SystemExit('found nothing')
""",
    "other calls' files": """
import os
for top in ('/tmp', '/var/tmp', '/dev/shm', '{base}'):
    for where, folders, files in os.walk(top):
        for name in files:
            try:
                if 'the secret of a neighbour' in open(os.path.join(where, name)).read():
                    print('ESCAPED', where, name)
            except OSError:
                pass
raise SystemExit('found nothing')
""",
    "the journal": """
import os
for where, folders, files in os.walk('{workspace}'):
    for name in files:
        if 'journal' in open(os.path.join(where, name)).read():
            print('ESCAPED', where, name)
print('ESCAPED', open('{workspace}/.weft/journal.db').read())
""",
    "the kernel's memory": "print('ESCAPED', open('/proc/kcore', 'rb').read(64))",
    "a disk": """
import os
for name in ('/dev/vda', '/dev/sda', '/dev/nvme0n1', '/dev/mem'):
    if os.path.exists(name):
        print('ESCAPED', open(name, 'rb').read(64))
os.mknod('disk', 0o600 | 0o060000, os.makedev(254, 0))
print('ESCAPED', open('disk', 'rb').read(64))
""",
}

CONNECTING = {
    "a port of the host": """
import socket
with socket.create_connection(('127.0.0.1', {port}), timeout=2) as one:
    print('ESCAPED', one.recv(10))
""",
    "the metadata address": """
import socket
with socket.create_connection(('169.254.169.254', 80), timeout=2):
    print('ESCAPED')
""",
    "a datagram": """
import socket
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.connect(('127.0.0.1', {port}))
one.send(b'escaped')
raise SystemExit('sent into an empty network')
""",
    "a unix socket": """
import socket
one = socket.socket(socket.AF_UNIX)
one.connect('{socket}')
print('ESCAPED')
""",
    "an abstract unix socket": """
import socket
one = socket.socket(socket.AF_UNIX)
one.connect('\\0{socket}')
print('ESCAPED')
""",
}

WRITING = {
    "the journal": """
import os
os.makedirs('{workspace}/.weft', exist_ok=True)
open('{workspace}/.weft/journal.db', 'w').write('forged')
""",
    "a file outside": "open('{outside}/secret.txt', 'w').write('forged')",
    "a new file outside": "open('{outside}/new.txt', 'w').write('forged')",
    "the permissions of a file outside": """
import os
os.chmod('{outside}/secret.txt', 0o777)
print('ESCAPED')
""",
    "a program of the system": """
import os
for name in ('/usr/bin/env', '/bin/sh', '/etc/passwd', '/etc/ld.so.preload'):
    try:
        open(name, 'ab').close()
        print('ESCAPED', name)
    except OSError:
        pass
raise SystemExit('refused')
""",
    "the kernel's settings": """
import os
for name in ('/proc/sys/kernel/core_pattern', '/proc/sys/kernel/hostname', '/proc/sysrq-trigger'):
    try:
        os.close(os.open(name, os.O_WRONLY))
        print('ESCAPED' if name != '/proc/sysrq-trigger' or os.stat(name).st_rdev == 0 else 'a null device', name)
    except OSError:
        pass
raise SystemExit('refused')
""",
}

ACTING = {
    "its parent's end": """
import os, signal
for pid in (os.getppid(), {parent}):
    if pid > 2:
        os.kill(pid, signal.SIGKILL)
        print('ESCAPED')
raise SystemExit('refused')
""",
    "everyone's end": """
import os, signal
os.kill(-1, signal.SIGKILL)
raise SystemExit('nobody was there')
""",
    "a debugger": """
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
for pid in (os.getppid(), {parent}):
    if libc.ptrace(16, pid, 0, 0) == 0:
        print('ESCAPED')
raise SystemExit('refused')
""",
    "new namespaces and mounts": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for flags in (0x10000000, 0x00020000, 0x40000000, 0x10020000):
    if libc.unshare(flags) == 0:
        print('ESCAPED', flags)
if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0 or libc.umount2(b'/usr', 2) == 0:
    print('ESCAPED')
if libc.syscall(272, 0x10000000) == 0 or libc.syscall(0x40000000 + 39) > 0:
    print('ESCAPED')
raise SystemExit('refused')
""",
    "keys, events and programs in the kernel": """
import ctypes
libc = ctypes.CDLL(None, use_errno=True)
for number in (250, 298, 321, 323, 425, 304, 246, 175, 434 + 4):
    if libc.syscall(number, 0, 0, 0, 0, 0) >= 0:
        print('ESCAPED', number)
raise SystemExit('refused')
""",
    "root": """
import os
for identity in {0, 1, 65534} - {os.getuid()}:
    try:
        os.setuid(identity)
    except OSError:
        continue
    if os.getuid() == identity and identity != os.stat('/usr').st_uid:
        print('ESCAPED', identity)
status = open('/proc/self/status').read() if os.access('/proc/self/status', os.R_OK) else ''
for line in status.splitlines():
    if line.startswith('CapEff') and int(line.split()[1], 16):
        print('ESCAPED', line)
raise SystemExit('refused')
""",
}

TAKING = {
    "a fork bomb": """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
""",
    "10 GB": """
kept = []
for _ in range(100):
    kept.append(bytearray(100 * 2**20))
    for at in range(0, len(kept[-1]), 4096):
        kept[-1][at] = 1
print('ESCAPED')
""",
    "the processor": "while True: pass",
    "the disk": """
import os
for number in range(10**6):
    with open(os.path.join(os.environ.get('TMPDIR', '/tmp'), f'file{number}'), 'wb') as file:
        file.write(b'x' * 10**6)
""",
    "a million files": """
import os
top = os.environ.get('TMPDIR', '/tmp')
for number in range(10**6):
    if number % 10000 == 0:
        os.mkdir(os.path.join(top, f'folder{number}'))
    os.close(os.open(os.path.join(top, f'folder{number // 10000 * 10000}', f'file{number}'), os.O_CREAT | os.O_WRONLY))
print('ESCAPED')
""",
    "shared memory": """
import os
for number in range(10**6):
    with open(f'/dev/shm/file{number}', 'wb') as file:
        file.write(b'x' * 10**7)
print('ESCAPED')
""",
}

STAYING = {
    "a child that ignores TERM": """
import os, signal, time
if os.fork() == 0:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.close(1), os.close(2)
    while True:
        time.sleep(1)
""",
    "a child that forks twice": """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        for descriptor in (0, 1, 2):
            os.close(descriptor)
        while True:
            time.sleep(1)
    os._exit(0)
""",
    "many children of children": """
import os, time
for _ in range(5):
    if os.fork() == 0:
        for _ in range(4):
            if os.fork() == 0:
                os.setsid()
                while True:
                    time.sleep(1)
        os._exit(0)
""",
    "a stopped child": """
import os, signal
if os.fork() == 0:
    os.kill(os.getpid(), signal.SIGSTOP)
""",
}
