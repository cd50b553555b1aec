"""Waiting for what can be observed, and ports that stay free for who was named."""

import random
import socket
import time
from collections.abc import Callable

PAUSE_S = 0.02
DEADLINE_S = 120

# Below those that Linux gives to outgoing connections: else one of them could take the port of a
# server that is down for a while.
PORTS = range(10_000, 32_000)


def wait_for(
    what: Callable[[], object], why: Callable[[], str], seconds: float = DEADLINE_S
) -> None:
    """Asks until it is so. Raises AssertionError if it is not in time."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"after {seconds} s: {why()}"
        time.sleep(PAUSE_S)


def free_port() -> int:
    """A port that nobody listens on, for a server that will be restarted on it."""
    while True:
        port = random.choice(PORTS)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue


def takes_connections(port: int) -> bool:
    """Whether somebody listens."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True
