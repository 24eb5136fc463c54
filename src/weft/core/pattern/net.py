"""Hosts and ports: `api.github.com:443`, `*.example.com`, `10.0.0.0/8:8000-8100`, `[::1]:8080`, `*:443`.

A request names `host:port`, and after it, if an address was resolved from names, those names:
`140.82.121.5:443 api.github.com`. A pattern of a name matches no address that does not say so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from unicodedata import normalize

from weft.core.errors import BadInput
from weft.core.pattern.tree import Cut

Address = IPv4Address | IPv6Address

_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_NUMBER = re.compile(r"0x[0-9a-f]*|[0-9]+")
_DOTS = re.compile("[。．｡]")
_DEVIANT = frozenset("ßς\u200c\u200d")
"""Characters that the two standards of international names write differently."""
_NAT64, _SIXTOFOUR = IPv6Network("64:ff9b::/96"), IPv6Network("2002::/16")
_PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21, "ssh": 22}


def host(text: str) -> str:
    """The normal form of a host: lower case ASCII (IDNA) without a final dot, or an address as its number says,
    whatever way it is spelled (`0x7f.1`, `2130706433`, `[::ffff:127.0.0.1]`). Raises BadInput for no host at all."""
    plain = _DOTS.sub(".", text) if text.isascii() else normalize("NFKC", _DOTS.sub(".", text))
    plain = plain.strip().lower() if plain.isascii() else plain.strip()
    if plain[:1] == "[" and plain[-1:] == "]":
        return _six(plain[1:-1], text)
    if ":" in plain:
        return _six(plain, text)
    if not plain.isascii():
        plain = _idna(plain, text)
    plain = plain.removesuffix(".")
    labels = plain.split(".")
    if _NUMBER.fullmatch(labels[-1]):
        return _four(labels, text)
    if len(plain) > 253 or not all(map(_LABEL.fullmatch, labels)):
        raise BadInput(f"{text!r} is not a host: give a name such as api.github.com, or an address")
    return plain


def _idna(plain: str, shown: str) -> str:
    if not _DEVIANT.isdisjoint(plain):
        raise BadInput(f"the host {shown!r} is written in two ways by two standards: give its xn-- form")
    try:
        return plain.encode("idna").decode().lower()
    except UnicodeError as error:
        raise BadInput(f"{shown!r} is not a host: {error}") from None


def _four(labels: list[str], shown: str) -> str:
    """The address that the C library reads: 1 to 4 numbers, decimal, octal or hexadecimal, the last filling up."""
    try:
        if not 1 <= len(labels) <= 4:
            raise ValueError
        numbers = [_number(label) for label in labels]
        value, room = numbers[-1], 256 ** (5 - len(numbers))
        if value >= room or any(number > 255 for number in numbers[:-1]):
            raise ValueError
        for place, number in enumerate(numbers[:-1]):
            value += number << (24 - 8 * place)
        return str(IPv4Address(value))
    except ValueError:
        raise BadInput(f"{shown!r} ends in a number but is not an address") from None


def _number(label: str) -> int:
    if not _NUMBER.fullmatch(label):
        raise ValueError
    if label.startswith("0x"):
        return int(label[2:] or "0", 16)
    return int(label, 8 if len(label) > 1 and label[0] == "0" else 10)


def _six(plain: str, shown: str) -> str:
    try:
        address = IPv6Address(plain.partition("%")[0])
    except ValueError:
        raise BadInput(f"{shown!r} is not a host: an IPv6 address is written [::1] before a port") from None
    return str(address.ipv4_mapped or address)


def net_resource(name: str, port: int, names: Iterable[str] = ()) -> str:
    """The resource of a connection to `name` (a host or an address), which was resolved from `names`, if any.
    Raises BadInput if it is no host or no port."""
    if not 0 <= port <= 65535:
        raise BadInput(f"{port} is not a port: give 0 to 65535")
    place = f"{_bracketed(host(name))}:{port}"
    return " ".join([place, *(known for each in names if (known := host(each)) != host(name))])


def url_resource(url: str) -> str:
    """The resource of a request to this URL: its real host, whatever stands before an `@`, and its port (of http,
    https, ws, wss, ftp and ssh by default). Raises BadInput for URLs that clients read in different ways."""
    from urllib.parse import urlsplit

    if re.search(r"[\x00-\x20\x7f\\]", url):
        raise BadInput(f"the URL {url!r} holds a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        name, port = parts.hostname, parts.port
    except ValueError as error:
        raise BadInput(f"the URL {url!r} cannot be read: {error}") from None
    if not name or "%" in name.partition("%25")[0]:
        raise BadInput(f"the URL {url!r} names no host: write it as https://host/path")
    port = _PORTS.get(parts.scheme) if port is None else port
    if port is None:
        raise BadInput(f"the URL {url!r} names no port, and {parts.scheme or 'no scheme'!r} has no known one")
    return net_resource(f"[{name}]" if ":" in name else name, port)


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def _split(text: str, rest: str) -> tuple[str, str]:
    """Host and port of `HOST[:PORT]`, with or without brackets; a bare IPv6 address has no port."""
    if text[:1] == "[":
        name, bracket, port = text.partition("]")
        tail, colon, port = port.partition(":")
        if bracket and (not tail or tail[0] == "/") and bool(colon) == bool(port):
            return name[1:] + tail, port
        raise BadInput(f"{text!r} is not {rest}: an IPv6 address with a port is written [::1]:8080")
    if text.count(":") > 1:
        return text, ""
    name, colon, port = text.partition(":")
    if colon and not port:
        raise BadInput(f"{text!r} is not {rest}: a port is missing after ':'")
    return name, port


class NetSubject:
    """One connection: the address or host, names it was resolved from, and the port."""

    __slots__ = ("_wide", "addresses", "everywhere", "keys", "names", "port", "wide_addresses", "wide_names")

    def __init__(self, names: list[str], port: int) -> None:
        self.names = names
        self.port = port
        self.addresses = [address for name in names if (address := _address(name))]
        self.keys = [*_keys(names), ""]
        self.everywhere = False
        self.wide_addresses = self.addresses
        self.wide_names = names
        self._wide: list[str] | None = None

    @property
    def wide_keys(self) -> list[str]:
        """Where denies and asks may be filed: also under what the host may turn out to be."""
        if self._wide is None:
            names = {*self.names, *(f"*.{name}" for name in self.names)}
            addresses = {wide for address in self.addresses for wide in _embedded(address)}
            if any(address.is_loopback or address.is_unspecified for address in addresses):
                names.add("localhost")
            if any(name == "localhost" or name.endswith(".localhost") for name in names):
                names.add("localhost")
                addresses |= {ip_address("127.0.0.1"), ip_address("::1")}
            names.update(map(str, addresses))
            self.wide_names, self.wide_addresses = sorted(names), list(addresses)
            self._wide = [*_keys(self.wide_names), ""]
        return self._wide

    def cut(self, cuts: Iterable[Cut]) -> list[str]:
        """Where networks are filed that allow."""
        return _blocks(self.addresses, cuts)

    def wide_cut(self, cuts: Iterable[Cut]) -> list[str]:
        """Where networks are filed that deny or ask."""
        self.wide_keys  # noqa: B018  (computes the wide forms)
        return _blocks(self.wide_addresses, cuts)


def _address(name: str) -> Address | None:
    if ":" not in name and not name[-1:].isdigit():
        return None
    try:
        return ip_address(name)
    except ValueError:
        return None


def _embedded(address: Address) -> list[Address]:
    """The address, and the IPv4 addresses that reach the same host through it."""
    if isinstance(address, IPv4Address):
        return [address]
    found: list[Address] = [address]
    if address in _NAT64 or int(address) >> 32 == 0:
        found.append(IPv4Address(int(address) & 0xFFFFFFFF))
    elif address in _SIXTOFOUR:
        found.append(IPv4Address(int(address) >> 80 & 0xFFFFFFFF))
    return found


def _keys(names: Iterable[str]) -> list[str]:
    keys = []
    for name in names:
        keys.append(name)
        dot = -1
        while (dot := name.find(".", dot + 1)) >= 0:
            keys.append(f"*{name[dot:]}")
    return keys


def _blocks(addresses: Iterable[Address], cuts: Iterable[Cut]) -> list[str]:
    cuts = list(cuts)
    return [
        _block(address, length) for address in addresses for version, length in cuts if version == f"#{address.version}"
    ]


def _block(address: Address, length: int) -> str:
    """Where the network of this length is filed that holds the address."""
    return f"#{address.version}/{length}.{int(address) >> (address.max_prefixlen - length)}"


@lru_cache(maxsize=4096)
def net_subject(resource: str) -> NetSubject | None:
    """What a request for `host:port [name ...]` is about; None if it is not one. Spelling does not matter."""
    try:
        place, *names = resource.split(" ")
        name, port = _split(place, "host:port")
        return NetSubject([host(name), *map(host, names)], int(port)) if port.isdecimal() else None
    except BadInput:
        return None


class NetPattern:
    """A host, all hosts under a domain, a network or everything, with a range of ports."""

    __slots__ = ("first", "key", "key_cut", "last", "name", "network", "wide_key", "wide_key_cut")

    def __init__(self, name: str, first: int, last: int) -> None:
        self.name = name
        self.first, self.last = first, last
        self.network: IPv4Network | IPv6Network | None = ip_network(name) if "/" in name else None
        self.key = "" if name == "*" else name
        self.key_cut: Cut | None = None
        if self.network is not None:
            self.key_cut = f"#{self.network.version}", self.network.prefixlen
            self.key = _block(self.network.network_address, self.network.prefixlen)
        self.wide_key, self.wide_key_cut = self.key, self.key_cut

    def _fits(self, names: list[str], addresses: list[Address]) -> bool:
        if self.network is not None:
            return any(address in self.network for address in addresses)
        if self.name[0] == "*":
            return self.name == "*" or any(name.endswith(self.name[1:]) for name in names)
        return self.name in names

    def allows(self, subject: NetSubject) -> bool:
        """Whether an allow with this pattern speaks of the connection."""
        return self.first <= subject.port <= self.last and self._fits(subject.names, subject.addresses)

    def overlaps(self, other: NetPattern) -> bool:
        """Whether some connection may match both; False only if surely none does."""
        if self.last < other.first or other.last < self.first:
            return False
        if "*" in self.name or "*" in other.name or self.network or other.network:
            return True  # an address may have any name
        return self.name == other.name

    def covers(self, other: NetPattern) -> bool:
        """Whether all that matches the other surely matches this."""
        return self.first <= other.first and other.last <= self.last and self.name in ("*", other.name)

    def catches(self, subject: NetSubject) -> bool:
        """Whether a deny or ask with this pattern speaks of it: also of `localhost` for 127.0.0.1, of the address
        inside another, of `example.com` for `*.example.com`."""
        if not self.first <= subject.port <= self.last:
            return False
        subject.wide_keys  # noqa: B018  (computes the wide forms)
        return self._fits(subject.wide_names, subject.wide_addresses)


def _pattern(text: str) -> NetPattern:
    name, ports = _split(text.strip(), "HOST[:PORT[-PORT]]")
    first, last = 0, 65535
    if ports and ports != "*":
        low, dash, high = ports.partition("-")
        if not low.isdecimal() or (dash and not high.isdecimal()):
            raise BadInput(f"{ports!r} in {text!r} is no port: write HOST, HOST:443 or HOST:8000-8100")
        first, last = int(low), int(high or low)
        if not first <= last <= 65535:
            raise BadInput(f"the ports {ports!r} in {text!r} must be between 0 and 65535, the smaller first")
    if name in ("*", "**"):
        return NetPattern("*", first, last)
    if "/" in name:
        try:
            return NetPattern(str(ip_network(name, strict=False)), first, last)
        except ValueError:
            raise BadInput(f"{name!r} in {text!r} is no network such as 10.0.0.0/8") from None
    if name.startswith("*."):
        return NetPattern(f"*.{host(name[2:])}", first, last)
    if "*" in name or "?" in name:
        raise BadInput(f"the host {name!r}: a star stands for the first labels only, as in *.example.com")
    return NetPattern(host(name), first, last)


def net_pattern(text: str) -> str:
    """The pattern as it is stored, in normal form. Raises BadInput if it cannot be one."""
    if "://" in text:
        raise BadInput(f"the network pattern {text!r} is a URL: write {url_resource(text)!r}")
    pattern = _pattern(text)
    name = pattern.name
    if ":" in name:
        name = f"[{name.partition('/')[0]}]" + "".join(name.partition("/")[1:])
    if (pattern.first, pattern.last) == (0, 65535):
        return name
    return f"{name}:{pattern.first}" + (f"-{pattern.last}" if pattern.last != pattern.first else "")


@lru_cache(maxsize=65536)
def compiled_net(stored: str) -> NetPattern:
    """The matcher of a stored network pattern."""
    return _pattern(stored)
