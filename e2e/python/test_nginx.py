"""Behind nginx, with the configuration that docs/operate/nginx.md gives, nothing is held back."""

import re
import select
import statistics
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.client import HTTPConnection

import httpx
import pytest

from conftest import REPOSITORY
from nginx import location
from stream import Stream

LATENCY_MS_MAX = 50
OUTLIER_MS_MAX = 1000  # one slow event on a busy machine; the median must hold
EVENT_COUNT = 50
MANY_STREAMS = 1000

DOCUMENTED = re.findall(
    r"```nginx\n(.*?)```", (REPOSITORY / "docs/operate/nginx.md").read_text(), re.DOTALL
)
MINIMAL, LARGE_BODIES, HOST_PASSED_ON, MANY_CONNECTIONS = DOCUMENTED
CONFIGS = {"HTTP/1.1": MINIMAL, "HTTP/1.0": location("proxy_http_version 1.0")}


@pytest.fixture(scope="module", params=CONFIGS)
def version(request: pytest.FixtureRequest) -> str:
    """What nginx speaks to the hub: 1.1 as documented, and 1.0, its old default."""
    return request.param


@pytest.fixture(scope="module")
def proxy(start_nginx, hub, version):
    return start_nginx(hub, CONFIGS[version])


def summary(ms: list[float]) -> str:
    """The median and the slowest of some durations."""
    return f"median {statistics.median(ms):.1f} ms, max {max(ms):.1f} ms of {len(ms)}"


def ms_until(condition: Callable[[], bool]) -> float:
    """Asks until the condition holds, and returns how long that took."""
    asked = time.monotonic()
    while not condition():
        assert time.monotonic() - asked < 20, "the condition does not come to hold"
    return (time.monotonic() - asked) * 1000


def ms_until_active(hub, count: int) -> float:
    """Waits until the hub counts so many connections."""
    return ms_until(lambda: hub.metric("tidings_active_connections") == count)


def test_head_and_first_line_arrive_at_once(proxy, version, topic, figure):
    heads, lines = [], []
    for _ in range(10):
        with Stream(proxy.port, topic=topic) as stream:
            heads.append(stream.head_ms)
            lines.append(stream.first_line_ms)
            assert stream.first_line.startswith("retry: ")
            assert stream.response.headers["content-type"] == "text/event-stream"
            assert stream.response.headers["cache-control"] == "no-cache, no-transform"
    figure(f"nginx over {version}, request to head: {summary(heads)}")
    figure(f"nginx over {version}, request to first line: {summary(lines)}")
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
    figure(f"nginx over {version}, publish to receipt: {summary(took)}")
    assert statistics.median(took) <= LATENCY_MS_MAX
    assert max(took) <= OUTLIER_MS_MAX


def test_heartbeats_pass(proxy, topic):
    with Stream(proxy.port, topic=topic) as stream:
        for _ in range(2):
            stream.heartbeat()


def test_heartbeats_keep_the_stream_open(hub, start_nginx, topic):
    proxy = start_nginx(hub, location("proxy_http_version 1.1", "proxy_read_timeout 2s"))
    with Stream(proxy.port, topic=topic) as stream:
        for _ in range(4):
            stream.heartbeat()
        published = hub.publish(topic, "after a long silence")
        assert stream.event().id == published


def test_publish_through_nginx(proxy, topic):
    with Stream(proxy.port, topic=topic) as stream:
        answer = httpx.post(f"{proxy.url}/events", json={"topic": topic, "data": {"n": 1}})
        assert answer.status_code == 200
        event = stream.event()
    assert (event.id, event.data) == (answer.json()["id"], '{"n":1}')


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
    ms_until_active(hub, 0)
    stream = Stream(proxy.port, topic=topic)
    ms_until_active(hub, 1)
    stream.close()
    figure(
        f"nginx over {version}, a client that left is noticed within {ms_until_active(hub, 0):.1f} ms"
    )


def test_without_the_header_events_are_held_back(hub, start_nginx, topic):
    """What the header is for: over HTTP/1.0 a buffering nginx waits until a buffer is full."""
    deaf = start_nginx(
        hub, location("proxy_http_version 1.0", "proxy_ignore_headers X-Accel-Buffering")
    )
    proxy = start_nginx(hub, location("proxy_http_version 1.0"))
    ms_until_active(hub, 0)
    held = HTTPConnection("127.0.0.1", deaf.port, timeout=20)
    held.request("GET", f"/events?topic={topic}", headers={"accept": "text/event-stream"})
    ms_until_active(hub, 1)
    with Stream(proxy.port, topic=topic) as stream:
        for number in range(10):
            hub.publish(topic, str(number))
        assert [stream.event().data for _ in range(10)] == [str(number) for number in range(10)]
        assert select.select([held.sock], [], [], 0)[0] == [], "not even the head should be here"
    hub.publish(topic, "x" * 100_000)
    response = held.getresponse()
    assert b"data: 0\n" in response.read(1000)
    response.close()
    held.close()


def test_compression_by_nginx_does_not_hold_back(hub, start_nginx, topic):
    proxy = start_nginx(
        hub,
        location(
            "proxy_http_version 1.1", "gzip on", "gzip_proxied any", "gzip_types text/event-stream"
        ),
    )
    query = {"topic": topic}
    with httpx.stream(
        "GET", f"{proxy.url}/events", params=query, headers={"accept-encoding": "gzip"}
    ) as answer:
        assert answer.headers["content-encoding"] == "gzip"
        inflater, text, pieces = zlib.decompressobj(wbits=31), b"", answer.iter_raw()
        for number in range(3):
            hub.publish(topic, str(number))
            while b"data: %d\n\n" % number not in text:
                text += inflater.decompress(next(pieces))


@pytest.mark.parametrize(
    ("config", "status"), [(MINIMAL, 414), (MANY_CONNECTIONS, 200)], ids=["default", "documented"]
)
def test_url_with_many_topics(hub, start_nginx, config, status):
    query = {
        "topic": [f"{number}/" + "x" * 200 for number in range(100)],
        "mode": "poll",
        "wait": 0,
    }
    assert httpx.get(f"{start_nginx(hub, config).url}/events", params=query).status_code == status


@pytest.mark.parametrize(
    ("config", "status"), [(MINIMAL, 413), (LARGE_BODIES, 200)], ids=["default", "documented"]
)
def test_body_over_a_mebibyte(hub, start_nginx, topic, config, status):
    line = b'{"topic":"%s","data":"%s"}\n' % (topic.encode(), b"x" * 1000)
    answer = httpx.post(
        f"{start_nginx(hub, config).url}/events",
        content=line * 2000,
        headers={"content-type": "application/x-ndjson"},
        timeout=60,
    )
    assert answer.status_code == status
    if status == 200:
        assert len(answer.json()["ids"]) == 2000


def test_lines_are_published_while_the_body_is_sent(hub, start_nginx, topic):
    proxy = start_nginx(hub, LARGE_BODIES)
    with Stream(proxy.port, topic=topic) as stream:
        received = []

        def lines():
            for number in range(3):
                yield b'{"topic":"%s","data":"%d"}\n' % (topic.encode(), number)
                received.append(stream.event())

        answer = httpx.post(
            f"{proxy.url}/events", content=lines(), headers={"content-type": "application/x-ndjson"}
        )
    assert answer.json()["ids"] == [event.id for event in received]


@pytest.mark.parametrize(
    ("config", "status"), [(MINIMAL, 403), (HOST_PASSED_ON, 200)], ids=["default", "documented"]
)
def test_form_of_a_page_publishes_over_plain_http(hub, start_nginx, topic, config, status):
    proxy = start_nginx(hub, config)
    answer = httpx.post(f"{proxy.url}/events", data={"topic": topic}, headers={"origin": proxy.url})
    assert answer.status_code == status, answer.text


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        ({"data": {}}, {"origin": "https://app.example", "sec-fetch-site": "same-origin"}),
        ({"json": {}}, {"origin": "https://app.example", "sec-fetch-site": "same-origin"}),
        ({"json": {}}, {"origin": "http://app.example"}),
    ],
    ids=["form over https", "JSON over https", "JSON over http"],
)
def test_page_publishes_with_nothing_more(hub, start_nginx, topic, body, headers):
    ((kind, fields),) = body.items()
    fields["topic"] = topic
    answer = httpx.post(
        f"{start_nginx(hub, MINIMAL).url}/events", headers=headers, **{kind: fields}
    )
    assert answer.status_code == 200, answer.text


def test_many_streams(hub, start_nginx, topic, figure):
    proxy = start_nginx(hub, MANY_CONNECTIONS)
    ms_until_active(hub, 0)
    with ExitStack() as opened:
        streams = [
            opened.enter_context(Stream(proxy.port, topic=topic)) for _ in range(MANY_STREAMS)
        ]
        published = time.monotonic()
        event_id = hub.publish(topic, "for all")
        events = [stream.event() for stream in streams]
    assert [event.id for event in events] == [event_id] * MANY_STREAMS
    took = (events[-1].at - published) * 1000
    figure(f"nginx, one event read by {MANY_STREAMS} streams, one after the other: {took:.0f} ms")
    ms_until_active(hub, 0)
