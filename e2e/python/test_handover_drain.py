"""How a hub goes away: not ready at once, politely, and spread over the drain."""

import json
import signal
import threading
import time
from http.client import HTTPConnection

from stream import Stream


def ask(connection: HTTPConnection, method: str, path: str, body: object = None):
    headers = {"content-type": "application/json"} if body is not None else {}
    text = None if body is None else json.dumps(body)
    connection.request(method, path, body=text, headers=headers)
    answer = connection.getresponse()
    return answer, answer.read().decode()


def once(port: int, method: str, path: str, body: object = None):
    connection = HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        return ask(connection, method, path, body)
    finally:
        connection.close()


def wait_until_not_ready(port: int) -> None:
    deadline = time.monotonic() + 10
    while once(port, "GET", "/health/ready")[0].status == 200:
        assert time.monotonic() < deadline


class Reader(threading.Thread):
    """Reads a stream to its end, and notes what it says on leaving and when it ends."""

    def __init__(self, port: int, topic: str):
        super().__init__()
        self.stream = Stream(port, topic=topic)
        self.lines: list[str] = []
        self.ended_at = 0.0
        self.start()

    def run(self) -> None:
        try:
            while True:
                self.lines.append(self.stream.line())
        except EOFError:
            self.ended_at = time.monotonic()
        self.stream.close()

    @property
    def retry_ms(self) -> int:
        return int(next(it for it in reversed(self.lines) if it.startswith("retry: "))[7:])


def test_streams_end_spread_over_the_drain_each_told_to_come_back(start_hub, topic, figure):
    hub = start_hub("--drain", "3s", "--retry", "1s")
    readers = [Reader(hub.port, topic) for _ in range(60)]
    hub.publish(topic, "last")
    asked = time.monotonic()
    hub.begin_shutdown()
    for reader in readers:
        reader.join(timeout=20)
    assert hub.close() == 0
    ends = sorted(reader.ended_at - asked for reader in readers)
    # Every stream has its own share of the drain; two shards end theirs side by side.
    for tenth in range(1, 10):
        ended = sum(end <= 3 * tenth / 10 + 0.15 for end in ends)
        assert ended >= 60 * tenth / 10 - 6, ends
        early = sum(end <= 3 * tenth / 10 - 0.15 for end in ends)
        assert early <= 60 * tenth / 10 + 6, ends
    for reader in readers:
        assert "data: last" in reader.lines
        assert "event: tidings.shutdown" in reader.lines
        assert 1_000 <= reader.retry_ms <= 5_000
    assert len({reader.retry_ms for reader in readers}) > 30, "spread, so that they do not return together"
    figure(
        f"drain of 3 s: 60 streams ended after {ends[0]:.2f} to {ends[-1]:.2f} s, told to come back "
        f"after {min(r.retry_ms for r in readers)} to {max(r.retry_ms for r in readers)} ms"
    )


def test_who_comes_during_the_drain_is_answered_and_sent_elsewhere(start_hub, topic):
    hub = start_hub("--drain", "4s")
    # They share the drain, so that it lasts.
    readers = [Reader(hub.port, topic) for _ in range(8)]
    kept = HTTPConnection("127.0.0.1", hub.port, timeout=10)
    assert ask(kept, "GET", "/health/ready")[0].status == 200
    hub.begin_shutdown()
    wait_until_not_ready(hub.port)

    answer, text = once(hub.port, "GET", "/health/ready")
    assert answer.status == 503
    assert json.loads(text) == {"status": "unavailable", "reason": "shutting-down"}
    assert once(hub.port, "GET", "/health/live")[0].status == 200
    answer, text = ask(kept, "POST", "/events", {"topic": topic, "data": 1})
    assert answer.status == 503, text
    assert json.loads(text)["type"] == "urn:tidings:problem:shutting-down"
    assert int(answer.getheader("retry-after")) >= 1
    assert answer.getheader("connection") == "close", "a kept connection is not to be used again"
    answer, text = once(hub.port, "GET", f"/events?topic={topic}")
    assert (answer.status, answer.getheader("content-type")) == (200, "text/event-stream")
    name, _, retry_ms = text.strip().partition(": ")
    assert name == "retry" and 10_000 <= int(retry_ms) <= 30_000, text
    poll = HTTPConnection("127.0.0.1", hub.port, timeout=10)
    poll.request(
        "GET", f"/events?topic={topic}&mode=poll&wait=1", headers={"accept": "application/json"}
    )
    answer = poll.getresponse()
    assert answer.status == 503 and int(answer.getheader("retry-after")) >= 1
    poll.close()
    assert any(reader.is_alive() for reader in readers), "all of this was during the drain"
    for reader in readers:
        reader.join(timeout=20)
    assert hub.close() == 0


def test_during_the_delay_it_serves_on_and_says_that_it_goes(start_hub, topic):
    hub = start_hub("--drain", "0s", "--drain-delay", "2s")
    begun = time.monotonic()
    hub.begin_shutdown()
    wait_until_not_ready(hub.port)
    reader = Reader(hub.port, topic)
    connection = HTTPConnection("127.0.0.1", hub.port, timeout=10)
    answer, text = ask(connection, "POST", "/events", {"topic": topic, "data": "served"})
    assert answer.status == 200, text
    assert answer.getheader("connection") == "close"
    assert time.monotonic() - begun < 2, "all of this was during the delay"
    reader.join(timeout=20)
    assert "data: served" in reader.lines and "event: tidings.shutdown" in reader.lines
    assert reader.ended_at - begun >= 2
    assert hub.close() == 0


def test_a_second_signal_ends_it_at_once(start_hub, topic):
    hub = start_hub("--drain", "60s", "--drain-delay", "60s")
    hub.begin_shutdown()
    wait_until_not_ready(hub.port)
    hub.signal(signal.SIGTERM)
    assert hub.wait() == 1


def test_a_client_that_keeps_its_connection_is_answered_on_another(start_hub, topic):
    hub = start_hub("--drain", "0s", "--drain-delay", "2s")
    assert hub.client.get("/health/ready").status_code == 200
    hub.begin_shutdown()
    wait_until_not_ready(hub.port)
    for _ in range(3):
        hub.publish(topic, 1)
    assert hub.close() == 0
