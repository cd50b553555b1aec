"""Three nodes on one engine, each by way of a fault proxy of its own, behind one HAProxy."""

import shutil
import tempfile
from pathlib import Path

from cluster.engines import Engine
from cluster.fault_proxy import FaultProxy
from cluster.haproxy import HAProxy
from cluster.waiting import free_port, wait_for
from hub import Hub

OPTIONS = ["--heartbeat", "1s", "--retry", "100ms", "--drain", "1s", "--max-waiting", "20000"]


class Node:
    """A hub on a port that it keeps, and the way from it to its engine.

    Without an engine it keeps its events on disk.
    """

    def __init__(self, engine: Engine | None, folder: Path, *options: str):
        self.port = free_port()
        self.folder = folder
        self.way = FaultProxy(engine.port) if engine is not None else None
        self._engine = engine
        self._options = options
        self._starts = 0
        self.hub: Hub | None = None

    def start(self, **url: str) -> None:
        """Starts it, unless it runs."""
        if self.hub is not None:
            return
        self._starts += 1
        log = self.folder / f"stderr{self._starts}"
        place = {"data": self.folder / "data"}
        if self._engine is not None:
            place = {"store": self._engine.url(self.way.port, **url)}
        self.hub = Hub(*OPTIONS, *self._options, log=log, port=self.port, **place)

    def stop(self) -> None:
        """Ends it in good order."""
        if self.hub is not None:
            self.hub.begin_shutdown()
            # It may be frozen.
            self.hub.thaw()
            self.hub.close()
            self.hub = None

    def kill(self) -> None:
        """Ends it at once."""
        if self.hub is not None:
            self.hub.kill()
            self.hub.close()
            self.hub = None

    def freeze(self) -> None:
        """It does nothing for a while, and its connections stay."""
        if self.hub is not None:
            self.hub.freeze()

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        if self.hub is not None:
            self.hub.thaw()

    def readiness(self) -> tuple[int, str]:
        """What it answers to health checks."""
        answer = self.hub.client.get("/health/ready")
        return answer.status_code, answer.text

    def wait_until_ready(self) -> None:
        """Waits until it takes publishes."""
        wait_for(
            lambda: self.readiness()[0] == 200,
            lambda: f"{self.readiness()}\n{self.hub.said()}",
        )

    def said(self) -> str:
        """What it said in all its lives."""
        logs = sorted(self.folder.glob("stderr*"), key=lambda path: int(path.name[6:]))
        return "\n".join(f"--- {log.name}\n{log.read_text()}" for log in logs)

    def close(self) -> None:
        """Ends it, and the way to the engine."""
        self.thaw()
        self.kill()
        if self.way is not None:
            self.way.close()


class Nodes:
    """All of it: an engine, nodes, HAProxy before them."""

    def __init__(self, engine: Engine | None, *options: str, count: int = 3):
        self.folder = Path(tempfile.mkdtemp(prefix="tidings-nodes-"))
        self.engine = engine
        self.nodes = []
        for number in range(count if engine is not None else 1):
            folder = self.folder / f"node{number}"
            folder.mkdir()
            self.nodes.append(Node(engine, folder, *options))
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_until_ready()
        self.proxy = HAProxy([node.port for node in self.nodes], self.folder)
        # By this one, those come whose connections are to be cut by the network.
        self.way = FaultProxy(self.proxy.port)

    def heal(self) -> None:
        """Ends every fault, and starts whatever is down."""
        self.way.heal()
        if self.engine is not None:
            self.engine.thaw()
            self.engine.start()
        for node in self.nodes:
            if node.way is not None:
                node.way.heal()
            node.thaw()
            node.start()
        for node in self.nodes:
            node.wait_until_ready()

    def close(self) -> None:
        """Ends all but the engine, which its owner ends."""
        self.way.close()
        self.proxy.close()
        for node in self.nodes:
            node.close()
        shutil.rmtree(self.folder)
