"""A client that is sent from node to node a thousand times while events flow."""

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from cluster.checker import Began, Id, Ledger, Publish, Received, Record, violations
from cluster.clients import parse_block
from cluster.engines import ENGINES, Engine
from cluster.nodes import Node, Nodes
from cluster.waiting import wait_for

pytestmark = pytest.mark.timeout(600)

MOVES = 1000


@pytest.fixture(params=[*ENGINES])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = ENGINES[request.param]()
    yield engine
    engine.close()


@pytest.fixture
def nodes(engine: Engine) -> Iterator[Nodes]:
    nodes = Nodes(engine)
    yield nodes
    nodes.close()


class Flow(threading.Thread):
    """Publishes at one node after the other, as fast as they answer but for a breath.

    What is refused is published again.
    """

    def __init__(self, nodes: list[Node], topic: str):
        super().__init__(daemon=True)
        self.ledger = Ledger()
        self.count = 0
        self.ends = threading.Event()
        self.error: BaseException | None = None
        self._nodes = nodes
        self._topic = topic

    def publish(self) -> Id:
        data = str(self.count)
        made = Publish(0, (self._topic,), (data,), time.monotonic())
        self.ledger.publishes.append(made)
        event = {"topic": self._topic, "data": data, "key": f"{self._topic}:{data}"}
        client = self._nodes[self.count % 3].hub.client
        # An engine whose disk is busy with something else may be too slow once.
        while (answer := client.post("/events", json=event, timeout=60)).status_code == 503:
            pass
        assert answer.status_code == 200, answer.text
        made.ids = (Id.parse(answer.json()["id"]),)
        self.count += 1
        return made.ids[0]

    def run(self) -> None:
        try:
            while not self.ends.wait(0.003):
                self.publish()
        except BaseException as error:
            self.error = error


def resume(node: Node, topic: str, last_id: str) -> tuple[list[Received], float, float]:
    """What comes first after an id, how long it took to connect, and from then until it came."""
    begun = time.perf_counter()
    with socket.create_connection(("127.0.0.1", node.port), timeout=30) as connection:
        connected = time.perf_counter()
        head = f"GET /events?topic={topic} HTTP/1.1\r\nhost: localhost\r\n"
        connection.sendall(f"{head}last-event-id: {last_id}\r\n\r\n".encode())
        raw = b""
        while b"\n\n" not in raw.partition(b"\r\n\r\n")[2]:
            piece = connection.recv(65536)
            assert piece, raw
            raw += piece
        came = time.perf_counter()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), head
    text = b""
    while (end := body.find(b"\r\n")) >= 0:
        length = int(body[:end], 16)
        if len(body) < end + 2 + length:
            break
        text += body[end + 2 : end + 2 + length]
        body = body[end + 4 + length :]
    blocks = text.split(b"\n\n")[:-1]
    return [parse_block(block) for block in blocks], connected - begun, came - connected


def test_client_that_moves_all_the_time_loses_and_doubles_nothing(nodes, figure, topic):
    flow = Flow(nodes.nodes, topic)
    start = flow.publish()
    record = Record("the client", frozenset({topic}), [Began(start)])
    last_id, connects, resumes = str(start), [], []
    flow.start()
    for move in range(MOVES):
        count = flow.count
        wait_for(lambda: flow.count > count or flow.error, lambda: "nothing is published")
        assert flow.error is None, flow.error
        seen, connect_s, resume_s = resume(nodes.nodes[move % 3], topic, last_id)
        assert all(isinstance(item, Received) for item in seen), seen
        record.seen += seen
        last_id = str(seen[-1].id)
        connects.append(connect_s * 1000)
        resumes.append(resume_s * 1000)
    flow.ends.set()
    flow.join()
    end = flow.publish()
    while record.seen[-1].id < end:
        record.seen += resume(nodes.nodes[0], topic, str(record.seen[-1].id))[0]
    assert violations(flow.ledger, [record]) == []
    assert len(record.seen) == flow.count
    resume_ms, connect_ms = (
        f"{ordered[MOVES // 2]:.1f} ms at p50, {ordered[MOVES * 99 // 100]:.1f} ms at p99"
        for ordered in (sorted(resumes), sorted(connects))
    )
    figure(
        f"{MOVES} moves between nodes on {nodes.engine.name}, {flow.count} events: "
        f"resumed {resume_ms}, after connecting in {connect_ms}"
    )
