"""A real HAProxy before the nodes, as `deploy/haproxy` has it, without stickiness."""

import re
import socket
import subprocess
from pathlib import Path

from cluster.engines import program

DEPLOYED = Path(__file__).parents[3] / "deploy/haproxy/haproxy.cfg"

# Each stream takes a connection on either side.
CONFIG = """\
global
    maxconn 8000

{defaults}
frontend clients
    bind fd@{descriptor}
    default_backend hubs

{backend}
"""


class HAProxy:
    """HAProxy on a socket that it inherits: who connects at once waits until it accepts."""

    def __init__(self, node_ports: list[int], folder: Path):
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self._socket.getsockname()[1]
        descriptor = self._socket.fileno()
        config = folder / "haproxy.cfg"
        config.write_text(configuration(node_ports, descriptor))
        self.log = folder / "said"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [program("haproxy"), "-db", "-f", config],
                pass_fds=[descriptor],
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        """Ends it with all connections."""
        self._process.kill()
        self._process.wait()
        self._socket.close()


def configuration(node_ports: list[int], descriptor: int) -> str:
    """What is deployed, with the nodes of a test, and turns taken strictly."""
    text = DEPLOYED.read_text()
    defaults, backend = (
        re.search(rf"^{name}\n(?:[ \t#].*\n|\n)*", text, re.MULTILINE)[0]
        for name in ("defaults", "backend hubs")
    )
    backend = re.sub(r"balance \w+", "balance roundrobin", backend)
    for number, port in enumerate(node_ports, 1):
        backend, count = re.subn(rf"10\.0\.0\.1{number}:\d+", f"127.0.0.1:{port}", backend)
        assert count == 1, backend
    backend = re.sub(r"^.*10\.0\.0\.1\d:.*\n", "", backend, flags=re.MULTILINE)
    # Half a second without an answer takes a node out on a machine that has nothing else to do.
    backend = re.sub(r"inter 1s", "inter 300ms", backend)
    return CONFIG.format(defaults=defaults, backend=backend, descriptor=descriptor)
