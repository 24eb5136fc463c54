"""Values of made-up log lines: one maker for each kind that a slot of `corpus` names."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

SYLLABLES = (
    "ba co da fe gu hi jo ka le mi no pa qu ro se ti vu wa xe yo za tra pli sto ver mon tor gen lis cra den".split()
)
PEOPLE = "alice bob carol dave erin frank root admin guest postgres nobody deploy jenkins maria wei ahmed olga backup".split()
HOSTS = "web db cache mail gw edge build ns proxy api node worker rack storage".split()
ZONES = "example.com example.org corp.internal lan local eu-west.cloud.test cluster.local".split()
FOLDERS = "usr var lib home data opt etc tmp srv mnt log cache run spool src build share bin media".split()
ENDS = ".log .txt .conf .py .so .json .gz .db .tmp .xml .cpp .h .jar .yaml .sock .pid".split()
UNITS = "KB MB GB kB KiB MiB GiB TB B bytes".split()
SIGNALS = "GET POST PUT DELETE HEAD PATCH".split()


def word(r: Random) -> str:
    """A word of no language."""
    return "".join(r.choice(SYLLABLES) for _ in range(r.choice((1, 2, 2, 3, 3))))


def _int(r: Random) -> str:
    return str(
        r.choice(
            (
                r.randrange(2),
                r.randrange(10),
                r.randrange(100),
                r.randrange(2000),
                r.randrange(10**6),
                r.randrange(10**9),
            )
        )
    )


def _signed(r: Random) -> str:
    return ("-" if r.random() < 0.15 else "") + _int(r)


def _ip(r: Random) -> str:
    return ".".join(str(r.randrange(256)) for _ in range(4))


def _hex(r: Random, least: int = 4, most: int = 16) -> str:
    return "".join(r.choice("0123456789abcdef") for _ in range(r.randint(least, most)))


def _host(r: Random) -> str:
    name = r.choice(HOSTS) if r.random() < 0.5 else word(r)
    name += r.choice(("", "", "-", "")) + r.choice(("", str(r.randrange(40)), f"{r.randrange(99):02d}"))
    return name + r.choice(
        ("", "." + r.choice(ZONES), "." + word(r) + r.choice((".com", ".net", ".org", ".cn", ".io")))
    )


def _domain(r: Random) -> str:
    return ".".join([*(word(r) for _ in range(r.randint(1, 3))), r.choice("com net org io cn de edu".split())])


def _path(r: Random) -> str:
    parts = [
        r.choice(FOLDERS) if r.random() < 0.6 else word(r) + r.choice(("", str(r.randrange(99))))
        for _ in range(r.randint(1, 5))
    ]
    if r.random() < 0.1:
        return r.choice("CDE") + ":\\" + "\\".join(parts) + r.choice(ENDS)
    return "/" + "/".join(parts) + r.choice(("", "/", *ENDS))


def _relative(r: Random) -> str:
    return "/".join(word(r) for _ in range(r.randint(2, 3))) + r.choice(ENDS)


def _file(r: Random) -> str:
    return word(r) + r.choice(("", "_" + word(r), "-" + str(r.randrange(9)))) + r.choice(ENDS)


def _uri(r: Random) -> str:
    host = _ip(r) if r.random() < 0.4 else _domain(r)
    scheme = r.choice("http https ftp hdfs s3 tcp jdbc grpc ws redis".split())
    return f"{scheme}://{host}{r.choice(('', ':' + str(r.randrange(80, 65000))))}{_path(r) if r.random() < 0.8 else ''}"


def _joined(r: Random) -> str:
    """An identifier of a name and numbers."""
    mark = r.choice("_-_")
    parts = [word(r), *(str(r.randrange(10 ** r.choice((1, 2, 4, 6, 10)))) for _ in range(r.randint(1, 4)))]
    if r.random() < 0.25:
        parts.insert(2, r.choice("mrtxc"))
    if r.random() < 0.2:
        return f"{parts[0]}_-{r.randrange(10**12, 10**19)}"
    return ("" if r.random() < 0.95 else "-") + mark.join(parts)


def _uuid(r: Random) -> str:
    return "-".join(_hex(r, n, n) for n in (8, 4, 4, 4, 12))


def _package(r: Random) -> str:
    return ".".join([r.choice("com org net io".split()), *(word(r) for _ in range(r.randint(1, 3)))])


def _camel(r: Random) -> str:
    return "".join(word(r).title() for _ in range(r.randint(2, 3)))


def _decimal(r: Random) -> str:
    return f"{r.random() * 10 ** r.choice((0, 1, 2, 3)):.{r.randint(1, 4)}f}"


def _date(r: Random) -> str:
    mark = r.choice("-/")
    day = f"20{r.randrange(30):02d}{mark}{r.randint(1, 12):02d}{mark}{r.randint(1, 28):02d}"
    return day + r.choice(("", "T" + _clock(r), "T" + _clock(r) + "Z"))


def _clock(r: Random) -> str:
    return f"{r.randrange(24):02d}:{r.randrange(60):02d}:{r.randrange(60):02d}" + r.choice(
        ("", f".{r.randrange(1000):03d}")
    )


MAKERS: dict[str, Callable[[Random], str]] = {
    "int": _int,
    "signed": _signed,
    "small": lambda r: str(r.randrange(r.choice((3, 10, 40)))),
    "big": lambda r: str(r.randrange(10**4, 10**r.randint(5, 19))),
    "bit": lambda r: r.choice("01"),
    "bool": lambda r: r.choice("true false True False 0 1 enabled disabled ON OFF TRUE FALSE".split()),
    "code": lambda r: str(r.choice((0, 1, 2, 127, 137, 200, 201, 204, 301, 302, 400, 401, 403, 404, 409, 429, 500, 502, 503, r.randrange(256), -r.randrange(1, 120), r.randrange(10000)))),
    "http": lambda r: str(r.choice((200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 409, 410, 422, 429, 500, 502, 503, 504))),
    "errhex": lambda r: "0x" + _hex(r, 8, 8),
    "errno": lambda r: r.choice("ENOENT EACCES ECONNREFUSED ETIMEDOUT EPIPE EPERM E1101 E0401 E501 F401 W0611".split()),
    "hex": lambda r: "0x" + _hex(r, 2, 16),
    "digest": lambda r: _hex(r, r.choice((7, 8, 12, 32, 40)), 40),
    "short": lambda r: _hex(r, 7, 8),
    "uuid": _uuid,
    "joined": _joined,
    "id": lambda r: r.choice((_int, _joined, _uuid, lambda q: _hex(q, 8, 24)))(r),
    "letterid": lambda r: word(r)[:3] + str(r.randrange(100)),
    "unitid": lambda r: r.choice("eth en wlan sd tty md lo hd br dm ppp cpu usb".split()) + r.choice(("", "")) + str(r.randrange(12)),
    "coord": lambda r: f"R{r.randrange(80):02d}-M{r.randrange(2)}-N{r.randrange(16)}",
    "ip": _ip, "ipport": lambda r: f"{_ip(r)}:{r.randrange(1, 65536)}",
    "slaship": lambda r: f"/{_ip(r)}" + r.choice(("", f":{r.randrange(1, 65536)}")),
    "hostipport": lambda r: f"{_host(r)}/{_ip(r)}:{r.randrange(1, 65536)}",
    "ip6": lambda r: ":".join(_hex(r, 4, 4) for _ in range(r.choice((4, 8)))),
    "mac": lambda r: ":".join(_hex(r, 2, 2) for _ in range(6)),
    "port": lambda r: str(r.choice((22, 80, 443, 8080, r.randrange(1024, 65536)))),
    "host": _host, "hostport": lambda r: f"{_domain(r)}:{r.randrange(1, 65536)}", "domain": _domain,
    "pci": lambda r: f"{r.randrange(99):04d}:{r.randrange(99):02d}:{r.randrange(32):02x}.{r.randrange(8)}",
    "path": _path, "relative": _relative, "file": _file, "uri": _uri,
    "user": lambda r: r.choice(PEOPLE) if r.random() < 0.6 else word(r) + r.choice(("", "", str(r.randrange(99)))),
    "name": lambda r: word(r) + r.choice(("", "", "_" + word(r), "-" + word(r), str(r.randrange(9)))),
    "Name": _camel, "package": _package, "class": lambda r: f"{_package(r)}.{_camel(r)}",
    "component": lambda r: f"{_package(r)}/.{_camel(r)}",
    "program": lambda r: word(r) + r.choice((".exe", ".bin", "", "d", ".app")),
    "mail": lambda r: f"{r.choice(PEOPLE)}@{_domain(r)}",
    "type": lambda r: r.choice("create delete update read write primary backup full incremental INFO WARN DEBUG ERROR".split()),
    "verb": lambda r: r.choice(SIGNALS), "state": lambda r: r.choice("NEW INIT RUNNING DONE FAILED KILLED READY IDLE".split()),
    "decimal": _decimal, "percent": lambda r: r.choice((f"{r.randrange(101)}%", f"{_decimal(r)}%")),
    "version": lambda r: ".".join(str(r.randrange(30)) for _ in range(r.randint(2, 3))) + r.choice(("", "", "-rc1", "b2", "-" + str(r.randrange(20)))),
    "ms": lambda r: r.choice((_int(r) + r.choice("ms s us ns".split()), _decimal(r) + r.choice("ms s sec".split()))),
    "seconds": lambda r: r.choice((str(r.randrange(4000)), _decimal(r))),
    "clock": _clock, "minutes": lambda r: f"{r.randrange(60):02d}:{r.randrange(60):02d}", "date": _date,
    "stamp": lambda r: str(r.randrange(10**9, 2 * 10**9)) + r.choice(("", f"{r.randrange(1000):03d}")),
    "size": lambda r: r.choice((_int(r), _decimal(r))) + r.choice(UNITS), "bytes": lambda r: r.choice((_int(r), str(r.randrange(512, 10**8)))),
    "thousands": lambda r: f"{r.randrange(1000, 10**7):,}",
    "TYPE": lambda r: "_".join(word(r).upper() for _ in range(r.randint(1, 3))),
    "wheel": lambda r: f"{word(r)}-{r.randrange(30)}.{r.randrange(30)}.{r.randrange(30)}" + r.choice((".tar.gz", "-py3-none-any.whl", "-py3-none-any.whl.metadata", "-cp311-cp311-linux_x86_64.whl")),
    "pinned": lambda r: f"{word(r)}-{r.randrange(30)}.{r.randrange(30)}.{r.randrange(30)}",
    "month": lambda r: r.choice("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()),
    "quote": lambda r: word(r),
}  # fmt: skip
