"""A dashboard whose connection takes nothing for a while, as its browser would see it."""

import json
import socket
from collections.abc import Callable

from stream import Stream

TOPIC_COUNT = 20
EVENT_COUNT = 20_000
BATCH_SIZE = 500
FILLING = "x" * 1_000  # 20 MB in all: more than the two socket buffers take


def narrow(stream: Stream) -> None:
    """Lets the kernel hold little of what the client has not read."""
    connection = stream.response.fp.raw._sock
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)


def publish_prices(hub, topic: str, numbers: range) -> None:
    for begin in range(0, len(numbers), BATCH_SIZE):
        events = [
            {"topic": f"{topic}/{number % TOPIC_COUNT}", "data": f"{number} {FILLING}"}
            for number in numbers[begin : begin + BATCH_SIZE]
        ]
        answer = hub.client.post("/events", json=events)
        assert answer.status_code == 200, answer.text


def read_prices(stream: Stream, count: int) -> tuple[list[int], int]:
    """The numbers received until so many were received or left out, and how many were left out."""
    numbers: list[int] = []
    skipped = 0
    while len(numbers) + skipped < count:
        event = stream.event()
        if event.event == "tidings.conflated":
            assert event.id is None
            skipped += json.loads(event.data)["skipped"]
        else:
            assert event.event is None
            numbers.append(int(event.data.split()[0]))
    return numbers, skipped


def test_stalled_reader_gets_the_newest_of_each_topic(
    hub, topic: str, figure: Callable[[str], None]
):
    with Stream(hub.port, topic=f"{topic}/{{n}}", conflate="1") as stream:
        narrow(stream)
        publish_prices(hub, topic, range(EVENT_COUNT))
        numbers, skipped = read_prices(stream, EVENT_COUNT)
        assert numbers == sorted(set(numbers))
        assert len(numbers) + skipped == EVENT_COUNT
        newest = {number % TOPIC_COUNT: number for number in numbers}
        assert sorted(newest.values()) == list(range(EVENT_COUNT - TOPIC_COUNT, EVENT_COUNT))
        assert skipped > EVENT_COUNT / 2
        # Who keeps up receives everything.
        for number in range(EVENT_COUNT, EVENT_COUNT + 3):
            hub.publish(f"{topic}/0", f"{number}")
            assert read_prices(stream, 1) == ([number], 0)
        figure(f"stalled reader, conflate=1: {len(numbers)} of {EVENT_COUNT} events read")


def test_stalled_reader_gets_everything_without_it(hub, topic: str):
    count = 2_000
    with Stream(hub.port, topic=f"{topic}/{{n}}", conflate="0") as stream:
        narrow(stream)
        publish_prices(hub, topic, range(count))
        assert read_prices(stream, count) == (list(range(count)), 0)


def test_page_that_begins_with_what_is_kept_gets_the_state(hub, topic: str):
    publish_prices(hub, topic, range(100))
    query = {"topic": f"{topic}/{{n}}", "last": "100", "conflate": "1"}
    with Stream(hub.port, **query) as stream:
        assert read_prices(stream, 100) == (list(range(80, 100)), 80)


def test_id_resumes_where_the_reader_was(hub, topic: str):
    first = hub.publish(f"{topic}/0", "0")
    publish_prices(hub, topic, range(1, 60))
    with Stream(
        hub.port, topic=f"{topic}/{{n}}", conflate="1", headers={"last-event-id": first}
    ) as stream:
        assert read_prices(stream, 59) == (list(range(40, 60)), 39)
        newest = hub.publish(f"{topic}/1", "60")
        assert stream.event().id == newest


def test_other_values_are_refused(hub):
    for value in ["", "2", "true", "01"]:
        answer = hub.client.get("/events", params={"topic": "a", "conflate": value})
        assert answer.status_code == 400, value
        problem = answer.json()
        assert problem["type"] == "urn:tidings:problem:invalid-parameter"
        assert problem["detail"] == "Give 0 or 1."
