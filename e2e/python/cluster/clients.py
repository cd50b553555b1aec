"""Subscribers by the thousand in one process, and publishers that do not give up."""

import asyncio
import contextlib
import json
import random
import time
from urllib.parse import quote

from cluster.checker import Began, Gap, Id, Ledger, Publish, Received, Record

# No sign of life for so long, heartbeats included: the client connects anew, as one behind a mobile
# network has to. Far above the heartbeat, because a frozen node's streams go on when it does.
SILENCE_S = 15.0
ANSWER_S = 4.0
PAUSE_S = (0.02, 0.2)


class Subscriber:
    """One client: keeps a stream open, resumes with the last id it saw, and writes down what came.

    `restless_s` is how long a connection lasts on average before the client leaves it for another
    one; `lazy` clients leave what came unread for a while now and then. Without a `start` it begins
    where the hub says that the stream does.
    """

    def __init__(
        self,
        record: Record,
        query: str,
        port: int,
        draw: random.Random,
        start: str | None = None,
        restless_s: float | None = None,
        lazy: bool = False,
    ):
        self.record = record
        self.port = port
        self.restless_s = restless_s
        self.connects = 0
        self.refusals = 0
        self.has_started = asyncio.Event()
        self.last_id = start
        self._has_id = start is not None
        self._query = query
        self._draw = draw
        self._lazy = lazy
        self._connection: _Connection | None = None
        self._task: asyncio.Task | None = None
        if start is not None:
            record.seen.append(Began(Id.parse(start)))

    def start(self) -> None:
        """Connects, and connects again whenever the stream ends."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    def cut(self) -> None:
        """Leaves the connection in the midst of whatever is coming."""
        if self._connection is not None:
            self._connection.abort()

    async def close(self) -> None:
        """Ends the client."""
        self._task.cancel()
        await asyncio.wait([self._task])
        self.cut()
        if not self._task.cancelled():
            self._task.result()

    def handle_head(self, status: int, headers: dict[bytes, bytes]) -> None:
        """The answer began."""
        if status != 200:
            self.refusals += 1
            return
        began = headers.get(b"last-event-id")
        if not self._has_id and began is not None:
            # It has seen nothing yet, so this is where it begins, however often it was cut before.
            self.last_id = began.decode()
            self.record.seen = [Began(Id.parse(self.last_id))]
        self.has_started.set()

    def handle_event(self, received: Received | Gap) -> None:
        """Something came."""
        if isinstance(received, Gap) and received.kind in ENDINGS:
            return
        self.record.seen.append(received)
        if isinstance(received, Received):
            self.last_id = str(received.id)
            self._has_id = True

    async def _run(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._stay_connected()
            await asyncio.sleep(self._draw.uniform(*PAUSE_S))

    async def _stay_connected(self) -> None:
        loop = asyncio.get_running_loop()
        self.connects += 1
        head = f"GET /events?{self._query} HTTP/1.1\r\nhost: localhost\r\n"
        if self.last_id is not None:
            head += f"last-event-id: {self.last_id}\r\n"
        _, connection = await loop.create_connection(
            lambda: _Connection(self, f"{head}\r\n".encode()), "127.0.0.1", self.port
        )
        self._connection = connection
        leaves_at = float("inf")
        if self.restless_s is not None:
            leaves_at = loop.time() + self._draw.expovariate(1 / self.restless_s)
        try:
            while not connection.ended.done():
                now = loop.time()
                if self._lazy:
                    connection.pause(self._draw.uniform(0.05, 0.5))
                is_silent = now - connection.heard_at > SILENCE_S and not connection.pauses
                if now > leaves_at or is_silent:
                    return
                timeout = min(1.0, max(0.01, leaves_at - now))
                await asyncio.wait([connection.ended], timeout=timeout)
        finally:
            connection.abort()


ENDINGS = {"tidings.shutdown"}

# What one client has parsed, the others receive as well: most blocks are the same bytes for all.
_parsed: dict[bytes, Received | Gap | None] = {}
PARSED_MAX = 20_000


def parse_block(block: bytes) -> Received | Gap | None:
    """An event from the lines between two empty ones; None if it has no data."""
    if block in _parsed:
        return _parsed[block]
    fields: dict[str, str] = {}
    for line in block.decode().split("\n"):
        name, _, value = line.partition(": ")
        if name != ":" and name:
            fields[name] = f"{fields[name]}\n{value}" if name in fields else value
    if "data" not in fields:
        result = None
    elif "id" not in fields:
        said = json.loads(fields["data"])
        requested = said.get("requested", said.get("after", ""))
        result = Gap(fields.get("event", ""), said.get("reason", ""), requested)
    else:
        result = Received(Id.parse(fields["id"]), fields["data"])
    if len(_parsed) > PARSED_MAX:
        _parsed.clear()
    _parsed[block] = result
    return result


class _Connection(asyncio.Protocol):
    """The bytes of one stream: head, chunks, blocks."""

    def __init__(self, subscriber: Subscriber, request: bytes):
        self.ended: asyncio.Future = asyncio.get_running_loop().create_future()
        self.heard_at = asyncio.get_running_loop().time()
        self.pauses = False
        self._subscriber = subscriber
        self._request = request
        self._raw = b""
        self._text = b""
        self._has_head = False
        self._is_chunked = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport) -> None:
        self._transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.heard_at = asyncio.get_running_loop().time()
        self._raw += data
        if not self._has_head and not self._take_head():
            return
        if self._is_chunked:
            self._take_chunks()
        else:
            self._text, self._raw = self._text + self._raw, b""
        self._take_blocks()

    def connection_lost(self, error) -> None:
        if not self.ended.done():
            self.ended.set_result(None)

    def abort(self) -> None:
        self._transport.abort()
        # What the event loop has read already is not delivered any more.
        self.data_received = lambda data: None

    def pause(self, seconds: float) -> None:
        if not self.pauses and not self.ended.done():
            self.pauses = True
            self._transport.pause_reading()
            asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        self.pauses = False
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _take_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            return False
        status, *lines = self._raw[:end].split(b"\r\n")
        self._raw = self._raw[end + 4 :]
        headers = dict(line.lower().split(b": ", 1) for line in lines)
        self._has_head = True
        self._is_chunked = headers.get(b"transfer-encoding") == b"chunked"
        code = int(status.split()[1])
        self._subscriber.handle_head(code, headers)
        if code != 200 or not headers[b"content-type"].startswith(b"text/event-stream"):
            self.abort()
            return False
        return True

    def _take_chunks(self) -> None:
        while (end := self._raw.find(b"\r\n")) >= 0:
            length = int(self._raw[:end], 16)
            if len(self._raw) < end + 2 + length + 2:
                return
            self._text += self._raw[end + 2 : end + 2 + length]
            self._raw = self._raw[end + 4 + length :]
            if length == 0:
                self._transport.close()

    def _take_blocks(self) -> None:
        while self._text.startswith(b":\n"):
            self._text = self._text[2:]
        if b"\n\n" not in self._text:
            return
        *blocks, self._text = self._text.split(b"\n\n")
        for block in blocks:
            while block.startswith(b":\n"):
                block = block[2:]
            received = parse_block(block)
            if received is not None:
                self._subscriber.handle_event(received)


class Publisher:
    """Publishes one request after the other, each until it is acknowledged, and keeps the answers.

    Each event has a key, so it can be sent again after whatever happened. Some publishes are given
    up after a failure, as when the publisher itself dies: those may have taken effect or not.
    """

    def __init__(
        self, number: int, ledger: Ledger, topics: list[str], port: int, draw: random.Random
    ):
        self.port = port
        self.refusals = 0
        self._number = number
        self._ledger = ledger
        self._topics = topics
        self._draw = draw
        self._count = 0
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, until: asyncio.Event, pause_s: float) -> None:
        """Publishes until told to end; what is under way then is finished."""
        while not until.is_set():
            publish = await self.publish()
            if publish.ids is not None and self._draw.random() < 0.05:
                await self._publish_again(publish)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(until.wait(), self._draw.uniform(0, 2 * pause_s))

    async def publish(self, topics: list[str] | None = None, gives_up: bool = True) -> Publish:
        """Publishes an event or several."""
        count = 1 if topics or self._draw.random() < 0.8 else self._draw.randint(2, 5)
        topics = topics or self._draw.sample(self._topics, self._draw.choice([1, 1, 1, 2]))
        data = tuple(self._data() for _ in range(count))
        publish = Publish(self._number, tuple(topics), data, time.monotonic())
        self._ledger.publishes.append(publish)
        gives_up = gives_up and self._draw.random() < 0.1
        publish.ids = await self._until_acknowledged(publish, gives_up)
        return publish

    async def close(self) -> None:
        """Ends its connection."""
        self._drop()

    def _data(self) -> str:
        self._count += 1
        name = f"{self._ledger.name}.{self._number}.{self._count}"
        # Most are small; a few are long enough to be cut in their midst.
        long = 20_000 if self._count % 10 == 0 else 0
        return name + "." * self._draw.choice([0, 0, 20, 200, 200, long])

    async def _publish_again(self, publish: Publish) -> None:
        ids = await self._until_acknowledged(publish, gives_up=False)
        # In another life of the log the keys of the earlier one are forgotten.
        if ids != publish.ids and ids[0].epoch == publish.ids[0].epoch:
            publish.answers_differ = f"{list(map(str, publish.ids))}, then {list(map(str, ids))}"

    async def _until_acknowledged(self, publish: Publish, gives_up: bool) -> tuple[Id, ...] | None:
        topic = publish.topics[0] if len(publish.topics) == 1 else list(publish.topics)
        events = [{"topic": topic, "data": data, "key": data.rstrip(".")} for data in publish.data]
        body = json.dumps(events if len(events) > 1 else events[0]).encode()
        while True:
            try:
                status, answer = await asyncio.wait_for(self._ask(body), ANSWER_S)
            except (OSError, EOFError, TimeoutError):
                self._drop()
            else:
                if status == 200:
                    said = json.loads(answer)
                    return tuple(map(Id.parse, said.get("ids") or [said["id"]]))
                assert status in {429, 502, 503, 504}, (status, answer)
                self.refusals += 1
            if gives_up:
                return None
            await asyncio.sleep(self._draw.uniform(*PAUSE_S))

    async def _ask(self, body: bytes) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self._connection
        head = "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = await reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().lower().rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        is_chunked = headers.get("transfer-encoding") == "chunked"
        if is_chunked:
            answer = await read_chunks(reader)
        elif "content-length" in headers:
            answer = await reader.readexactly(int(headers["content-length"]))
        else:
            answer = await reader.read()
        is_framed = is_chunked or "content-length" in headers
        if not is_framed or headers.get("connection") == "close":
            self._drop()
        return int(status.split()[1]), answer

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection[1].transport.abort()
            self._connection = None


async def read_chunks(reader: asyncio.StreamReader) -> bytes:
    """A body in chunks, without a trailer."""
    body = b""
    while length := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(length + 2))[:-2]
    await reader.readuntil(b"\r\n")
    return body


def query_for(topics: list[str], **others: str) -> str:
    """The query of a subscription."""
    parts = [f"topic={quote(topic, safe='/')}" for topic in topics]
    return "&".join(parts + [f"{name}={value}" for name, value in others.items()])
