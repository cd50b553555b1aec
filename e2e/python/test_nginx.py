"""Behind nginx with default settings, nothing is held back."""

import select
import statistics
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import httpx
import pytest

from stream import Stream

LATENCY_MS_MAX = 50
OUTLIER_MS_MAX = 1000  # one slow event on a busy machine; the median must hold
EVENT_COUNT = 50


@pytest.fixture(scope="module", params=["1.1", "1.0"])
def version(request) -> str:
    """The HTTP version between nginx and the hub; 1.0 is nginx's default."""
    return request.param


@pytest.fixture(scope="module")
def proxy(start_nginx, hub, version):
    return start_nginx(hub, f"proxy_http_version {version}")


def summary(ms: list[float]) -> str:
    """The median and the slowest of some durations."""
    return f"median {statistics.median(ms):.1f} ms, max {max(ms):.1f} ms of {len(ms)}"


def metric_becomes(hub, name: str, value: float) -> float:
    """Asks for a metric until it has the value, and returns how many ms that took."""
    asked = time.monotonic()
    while hub.metric(name) != value:
        assert time.monotonic() - asked < 10, f"{name} is {hub.metric(name)}, not {value}"
    return (time.monotonic() - asked) * 1000


def test_head_and_first_line_arrive_at_once(proxy, version, topic, figure):
    heads, lines = [], []
    for _ in range(10):
        with Stream(proxy.port, topic=topic) as stream:
            heads.append(stream.head_ms)
            lines.append(stream.first_line_ms)
            assert stream.first_line.startswith("retry: ")
            assert stream.response.headers["content-type"] == "text/event-stream"
    figure(f"nginx over HTTP/{version}, request to head: {summary(heads)}")
    figure(f"nginx over HTTP/{version}, request to first line: {summary(lines)}")
    assert statistics.median(lines) <= LATENCY_MS_MAX
    assert max(lines) <= OUTLIER_MS_MAX


def test_events_arrive_at_once(hub, proxy, version, topic, figure):
    took = []
    with Stream(proxy.port, topic=topic) as stream, ThreadPoolExecutor(1) as reader:
        for number in range(EVENT_COUNT):
            received = reader.submit(stream.event)
            published = time.monotonic()
            hub.publish(topic, str(number))
            event = received.result()
            took.append((event.at - published) * 1000)
            assert event.data == str(number)
    figure(f"nginx over HTTP/{version}, publish to receipt: {summary(took)}")
    assert statistics.median(took) <= LATENCY_MS_MAX
    assert max(took) <= OUTLIER_MS_MAX


def test_heartbeats_pass(proxy, topic):
    with Stream(proxy.port, topic=topic) as stream:
        for _ in range(3):
            stream.heartbeat()
        assert stream.heartbeats == 3


def test_publish_through_nginx(proxy, topic):
    with Stream(proxy.port, topic=topic) as stream:
        answer = httpx.post(f"{proxy.url}/events", json={"topic": topic, "data": {"n": 1}})
        assert answer.status_code == 200
        event = stream.event()
    assert (event.id, event.data) == (answer.json()["id"], '{"n":1}')


def test_large_ndjson_publish_through_nginx(proxy, topic):
    lines = b"".join(b'{"topic":"%s","data":"%d"}\n' % (topic.encode(), n) for n in range(5000))
    answer = httpx.post(
        f"{proxy.url}/events", content=lines, headers={"content-type": "application/x-ndjson"}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    assert len(answer.json()["ids"]) == 5000


def test_resume_through_nginx(hub, proxy, topic):
    ids = [hub.publish(topic, str(number)) for number in range(10)]
    with Stream(proxy.port, headers={"last-event-id": ids[3]}, topic=topic) as stream:
        replayed = [stream.event() for _ in ids[4:]]
        ids.append(hub.publish(topic, "live"))
        live = stream.event()
    assert [event.id for event in [*replayed, live]] == ids[4:]
    assert [event.data for event in replayed] == [str(number) for number in range(4, 10)]


def test_poll_through_nginx(hub, proxy, topic):
    published = hub.publish(topic, "kept")
    query = {"topic": topic, "last": "earliest", "mode": "poll", "wait": 0}
    answer = httpx.get(f"{proxy.url}/events", params=query, headers={"accept": "application/json"})
    assert [event["id"] for event in answer.json()["events"]] == [published]


def test_client_that_left_is_noticed(hub, proxy, version, topic, figure):
    metric_becomes(hub, "tidings_active_connections", 0)
    stream = Stream(proxy.port, topic=topic)
    metric_becomes(hub, "tidings_active_connections", 1)
    stream.close()
    took = metric_becomes(hub, "tidings_active_connections", 0)
    figure(f"nginx over HTTP/{version}, a client that left is noticed within {took:.1f} ms")


def test_compression_by_nginx_does_not_hold_back(hub, start_nginx, version, topic):
    proxy = start_nginx(hub, f"proxy_http_version {version}", "gzip on", "gzip_proxied any", "gzip_types text/event-stream")
    with httpx.stream("GET", f"{proxy.url}/events", params={"topic": topic}, headers={"accept-encoding": "gzip"}) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        inflater, text = zlib.decompressobj(wbits=31), b""
        pieces = answer.iter_raw()
        for number in range(3):
            hub.publish(topic, str(number))
            while b"data: %d\n\n" % number not in text:
                text += inflater.decompress(next(pieces))


def test_without_the_header_events_are_held_back(hub, start_nginx, topic):
    """What the header is for: over HTTP/1.0 a buffering nginx waits until a buffer is full."""
    deaf = start_nginx(hub, "proxy_ignore_headers X-Accel-Buffering")
    held = HTTPConnection("127.0.0.1", deaf.port, timeout=20)
    held.request("GET", f"/events?topic={topic}", headers={"accept": "text/event-stream"})
    metric_becomes(hub, "tidings_active_connections", 1)
    with Stream(start_nginx(hub).port, topic=topic) as stream:
        for number in range(10):
            hub.publish(topic, str(number))
        assert [stream.event().data for _ in range(10)] == [str(number) for number in range(10)]
        assert select.select([held.sock], [], [], 0)[0] == [], "not even the head should be here"
    hub.publish(topic, "x" * 100_000)
    response = held.getresponse()
    assert b"data: 0\n" in response.read(1000)
    response.close()
    held.close()
