"""Real servers for the tests, and a wire between them and us that can be broken at will."""

from __future__ import annotations

import random
import socket


def free_port() -> int:
    """A local port nothing listens on, below the range from which the kernel takes ports for outgoing connections.

    A server that is down keeps its number: from that range another client could take it, or a client that keeps
    trying could connect to itself.
    """
    for _ in range(1000):
        port = random.randint(15_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise OSError("1,000 local ports tried and none is free. Close some servers.")
