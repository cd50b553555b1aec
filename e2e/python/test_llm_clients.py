"""SDKs that parse every block as data read the hub's bytes without a phantom event."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice

import anthropic
import httpx
import httpx2
import httpx_sse
import openai
import pytest

TOKENS = ["Tid", "ings", " travel", ":\n", "\n", "data: ", "…", " fast", "."]


def completion_chunks() -> list[dict]:
    """What an OpenAI server streams for `TOKENS`."""

    def chunk(delta: dict, finish_reason: str | None = None) -> dict:
        return {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": "model",
            "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}],
        }

    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": token}) for token in TOKENS),
        chunk({}, "stop"),
    ]


def anthropic_events() -> list[dict]:
    """What an Anthropic server streams for `TOKENS`."""
    return [
        {
            "type": "message_start",
            "message": {
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "model",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": 1, "output_tokens": 1},
            },
        },
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": token},
            }
            for token in TOKENS
        ),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": len(TOKENS)},
        },
        {"type": "message_stop"},
    ]


class HubTransport(httpx2.BaseTransport):
    """Answers an SDK's POST with a stream of the hub, byte for byte, and counts its heartbeats."""

    def __init__(self, hub, **query: str):
        self._url = httpx2.URL(f"{hub.url}/events", params=query | {"control": "off"})
        self._network = httpx2.HTTPTransport()
        self._line_start = True
        self._heartbeats = 0
        self._counted = threading.Condition()

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        assert request.method == "POST"
        # The SDKs send `Accept: application/json` even for streams; a gateway has to say what it wants.
        headers = {"accept": "text/event-stream"}
        subscribe = httpx2.Request("GET", self._url, headers=headers, extensions=request.extensions)
        response = self._network.handle_request(subscribe)
        return httpx2.Response(
            response.status_code,
            headers=response.headers,
            stream=Observed(response.stream, self._observe),
            extensions=response.extensions,
        )

    def wait_for_heartbeats(self, count: int) -> None:
        """Waits until so many more heartbeats have passed."""
        with self._counted:
            goal = self._heartbeats + count
            assert self._counted.wait_for(lambda: self._heartbeats >= goal, timeout=20)

    def pause_at_some(self, number: int) -> None:
        """Lets heartbeats pass before the first event, which is then subscribed to, and every fourth."""
        if number % 4 == 0:
            self.wait_for_heartbeats(1)

    def _observe(self, piece: bytes) -> None:
        lines = piece.split(b"\n")
        with self._counted:
            self._heartbeats += sum(line == b":" for line in lines[:-1])
            self._counted.notify_all()


class Observed(httpx2.SyncByteStream):
    """Passes a stream on and shows each piece."""

    def __init__(self, stream: httpx2.SyncByteStream, observe):
        self._stream = stream
        self._observe = observe

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            self._observe(piece)
            yield piece

    def close(self) -> None:
        self._stream.close()


def openai_client(transport: httpx2.BaseTransport) -> openai.OpenAI:
    return openai.OpenAI(
        api_key="unused",
        base_url="http://completions.invalid/v1",
        max_retries=0,
        http_client=httpx2.Client(transport=transport),
    )


def read_completion(transport: httpx2.BaseTransport) -> list[dict]:
    """Every chunk that the OpenAI SDK yields, as it was published."""
    question = [{"role": "user", "content": "What are tidings?"}]
    with openai_client(transport).chat.completions.create(
        model="model", messages=question, stream=True
    ) as stream:
        return [chunk.model_dump(exclude_unset=True) for chunk in stream]


def read_message(transport: httpx2.BaseTransport) -> list[dict]:
    """Every event that the Anthropic SDK yields up to `message_stop`, as it was published."""
    client = anthropic.Anthropic(
        api_key="unused",
        base_url="http://messages.invalid",
        max_retries=0,
        http_client=httpx2.Client(transport=transport),
    )
    question = [{"role": "user", "content": "What are tidings?"}]
    with client.messages.create(
        model="model", max_tokens=64, messages=question, stream=True
    ) as stream:
        events = []
        for event in stream:
            events.append(event.model_dump(exclude_unset=True))
            if event.type == "message_stop":
                return events
    raise AssertionError(f"the stream ended after {events}")


@pytest.fixture
def publish_completion(hub, topic):
    """Publishes the chunks and `[DONE]`, and returns the ids; `before` is called with each number."""

    def publish(before=lambda number: None, **fields: object) -> list[str]:
        ids = []
        for number, data in enumerate([*completion_chunks(), "[DONE]"]):
            before(number)
            ids.append(hub.publish(topic, data, **fields))
        return ids

    return publish


@pytest.mark.parametrize(
    "fields",
    [{}, {"retry": 1500}, {"event": "delta"}, {"event": "delta", "retry": 1500}],
    ids=["plain", "retry", "event", "event and retry"],
)
def test_openai_reads_a_kept_completion(hub, topic, publish_completion, fields):
    publish_completion(**fields)
    assert read_completion(HubTransport(hub, topic=topic, last="earliest")) == completion_chunks()


def test_openai_reads_tokens_between_heartbeats(hub, topic, publish_completion):
    transport = HubTransport(hub, topic=topic)
    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish_completion, before=transport.pause_at_some)
        assert read_completion(transport) == completion_chunks()
        publishing.result()


def test_openai_resumes_after_a_refresh(hub, topic, publish_completion):
    ids = publish_completion()
    resumed = read_completion(HubTransport(hub, topic=topic, lastEventId=ids[4]))
    assert resumed == completion_chunks()[5:]


def test_openai_is_not_shown_a_gap(hub, topic, publish_completion):
    publish_completion()
    resumed = read_completion(HubTransport(hub, topic=topic, lastEventId="of-another-hub"))
    assert resumed == completion_chunks()


def test_anthropic_reads_events_between_heartbeats(hub, topic):
    transport = HubTransport(hub, topic=topic)

    def publish() -> None:
        for number, event in enumerate(anthropic_events()):
            transport.pause_at_some(number)
            hub.publish(topic, event, event=event["type"], retry=1500)

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        assert read_message(transport) == anthropic_events()
        publishing.result()


def test_httpx_sse_reads_exactly_the_events(hub, topic):
    events = [
        ("one", {"retry": 1500}, "one"),
        ("two\r\nlines", {"event": "pair"}, "two\nlines"),
        ("", {"event": "empty"}, ""),
        ({"json": [1, None, "…"]}, {}, '{"json":[1,null,"…"]}'),
        (":", {}, ":"),
        (" indented", {}, " indented"),
    ]
    published = [
        (
            hub.publish(topic, data, **fields),
            fields.get("event", "message"),
            text,
            fields.get("retry"),
        )
        for data, fields, text in events
    ]
    query = {"topic": topic, "last": "earliest"}
    with (
        httpx.Client() as client,
        httpx_sse.connect_sse(client, "GET", f"{hub.url}/events", params=query) as source,
    ):
        received = [
            (event.id, event.event, event.data, event.retry)
            for event in islice(source.iter_sse(), len(published))
        ]
    assert received == published
