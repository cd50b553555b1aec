"""What a service manager does for a hub: sockets that are open before it, and a socket that it tells
how it is."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from hub import BINARY


class Manager:
    """The receiving end of NOTIFY_SOCKET."""

    def __init__(self, folder: Path):
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.heard: list[tuple[float, dict[str, str]]] = []

    def next(self, within: float = 20) -> dict[str, str]:
        """What it is told next, by name."""
        self._socket.settimeout(within)
        lines = self._socket.recv(4096).decode().splitlines()
        told = dict(line.split("=", 1) for line in lines)
        self.heard.append((time.monotonic(), told))
        return told

    def until(self, name: str, within: float = 20) -> dict[str, str]:
        """What it is told up to a message with this name, which is returned."""
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            told = self.next(within)
            if name in told:
                return told
        raise AssertionError(f"no {name} in {self.heard}")

    def close(self) -> None:
        self._socket.close()


# What systemd does between fork and exec: the sockets become files 3 and up, of this process.
EXEC = """
import os, sys
count = int(sys.argv[1])
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(count))
os.execv(sys.argv[2], sys.argv[2:])
"""


def listening(port: int = 0, address: str = "127.0.0.1") -> socket.socket:
    """A socket as a socket unit has it."""
    found = socket.socket(socket.AF_INET)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((address, port))
    found.listen(4096)
    return found


def start(
    sockets: list[socket.socket],
    log: Path,
    *options: object,
    names: str | None = None,
    manager: Manager | None = None,
    watchdog_s: float | None = None,
) -> subprocess.Popen:
    """Starts `tidings serve` with sockets of somebody else's."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")}
    if names is not None:
        env["LISTEN_FDNAMES"] = names
    if manager is not None:
        env["NOTIFY_SOCKET"] = str(manager.path)
    if watchdog_s is not None:
        env["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
    # Copies far above, so that one does not take the place of another.
    high = [os.dup2(it.fileno(), 100 + place) for place, it in enumerate(sockets)]

    def place() -> None:
        for number, file in enumerate(high):
            os.dup2(file, 3 + number, inheritable=True)

    command = [sys.executable, "-c", EXEC, str(len(sockets)), BINARY, "serve", *options]
    with log.open("ab") as said:
        process = subprocess.Popen(
            [str(it) for it in command],
            env=env,
            stdout=subprocess.PIPE,
            stderr=said,
            pass_fds=range(3, 3 + len(sockets)),
            preexec_fn=place,
            cwd=log.parent,
            text=True,
        )
    for file in high:
        os.close(file)
    return process
