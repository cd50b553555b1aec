"""Three processes of tidings beside three of a Node hub on Redis Pub/Sub: costs, and losses.

Run as README.md says. Everything is on one machine: the figures compare, they do not size.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "e2e/python"))

from cluster.clients import read_chunks  # noqa: E402
from cluster.engines import Redis  # noqa: E402
from hub import BINARY  # noqa: E402

PROCESSES = 3
TICKS = os.sysconf("SC_CLK_TCK")
DATA_BYTES = 200
RESTLESS_S = 0.5


class Contender:
    """Some processes that serve one set of events from a Redis."""

    name = ""

    def __init__(self, redis: Redis):
        self.folder = tempfile.TemporaryDirectory(prefix="tidings-compared-")
        self._processes = []
        self.ports = []
        for number in range(PROCESSES):
            folder = Path(self.folder.name) / str(number)
            folder.mkdir()
            process = subprocess.Popen(
                self.command(redis),
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=(folder / "stderr").open("wb"),
                text=True,
            )
            self._processes.append(process)
            said = process.stdout.readline()
            self.ports.append(int(re.search(r"127\.0\.0\.1:(\d+)", said)[1]))

    def command(self, redis: Redis) -> list[object]:
        """What starts one process."""
        raise NotImplementedError

    def cpu_s(self) -> float:
        """The processor time that all of them have used."""
        total = 0
        for process in self._processes:
            stat = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            total += int(stat[11]) + int(stat[12])
        return total / TICKS

    def memory_mb(self) -> float:
        """What all of them hold."""
        total = 0
        for process in self._processes:
            status = Path(f"/proc/{process.pid}/status").read_text()
            total += int(re.search(r"VmRSS:\s+(\d+) kB", status)[1])
        return total / 1024

    def close(self) -> None:
        """Ends them."""
        for process in self._processes:
            process.kill()
            process.wait()
            process.stdout.close()
        self.folder.cleanup()


class Tidings(Contender):
    """The built binary."""

    name = "tidings"

    def command(self, redis: Redis) -> list[object]:
        return [BINARY, "serve", "--listen", "127.0.0.1:0", "--log", redis.url()]


class NodeHub(Contender):
    """`node/hub.js`."""

    name = "node"

    def command(self, redis: Redis) -> list[object]:
        return ["node", HERE / "node/hub.js", redis.url().partition("?")[0]]


class Counter(asyncio.Protocol):
    """A stream of which only the number of events counts."""

    def __init__(self, topic: str):
        self.count = 0
        self._topic = topic

    def connection_made(self, transport) -> None:
        self.transport = transport
        transport.write(
            f"GET /events?topic={self._topic} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self.count += data.count(b"data: ")


class Poster:
    """Publishes over one connection, which is kept."""

    def __init__(self, port: int):
        self._port = port
        self._streams = None

    async def post(self, topic: str, data: str) -> None:
        """Publishes an event, again and again until it is acknowledged."""
        body = json.dumps({"topic": topic, "data": data, "key": f"{topic}:{data}"}).encode()
        while True:
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                if await asyncio.wait_for(self._ask(body), 5) == 200:
                    return
            self.drop()
            await asyncio.sleep(0.05)

    async def _ask(self, body: bytes) -> int:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = "POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b"transfer-encoding: chunked" in head:
            await read_chunks(reader)
        else:
            length = re.search(rb"content-length: (\d+)", head)
            await reader.readexactly(int(length[1]))
        return int(head.split()[1])

    def drop(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def cost(contender: Contender, streams: int, rate: float, burst: int, seconds: float) -> dict:
    """Deliveries for a second of the processes' own time, under the same load for everybody.

    `rate` times a second, `burst` publishers publish one event each at the same time.
    """
    loop = asyncio.get_running_loop()
    topic, counters = "cost", []
    for number in range(streams):
        port = contender.ports[number % PROCESSES]
        _, counter = await loop.create_connection(lambda: Counter(topic), "127.0.0.1", port)
        counters.append(counter)
    posters = [Poster(contender.ports[number % PROCESSES]) for number in range(max(burst, 3))]
    # Until everybody is there, and everything is warm.
    sent = 0
    while any(counter.count == 0 for counter in counters):
        await posters[sent % PROCESSES].post(topic, f"warm {sent}")
        sent += 1
        await asyncio.sleep(0.05)
    for number in range(50):
        await posters[number % PROCESSES].post(topic, f"warm up {number}")
    await settled(counters)
    begun_cpu, begun, received = contender.cpu_s(), time.perf_counter(), total(counters)
    bursts = round(rate * seconds)
    padding = "x" * DATA_BYTES
    for number in range(bursts):
        due = begun + number / rate
        await asyncio.sleep(max(0, due - time.perf_counter()))
        data = [f"{number} {index} {padding}"[:DATA_BYTES] for index in range(burst)]
        # Single events arrive at one process after the other.
        first = number % PROCESSES if burst == 1 else 0
        posts = (posters[first + index].post(topic, each) for index, each in enumerate(data))
        await asyncio.gather(*posts)
    published_s = time.perf_counter() - begun
    await settled(counters)
    cpu_s, deliveries = contender.cpu_s() - begun_cpu, total(counters) - received
    for counter in counters:
        counter.transport.abort()
    events = bursts * burst
    return {
        "publishes a second": events / published_s,
        "missing": events * streams - deliveries,
        "deliveries for a CPU second": deliveries / cpu_s,
        "MB": contender.memory_mb(),
    }


def total(counters: list[Counter]) -> int:
    return sum(counter.count for counter in counters)


async def settled(counters: list[Counter]) -> None:
    """Waits until nothing more comes."""
    before = -1
    while before != total(counters):
        before = total(counters)
        await asyncio.sleep(0.5)


class Reader:
    """A client that comes back, as `EventSource` does: with the last id, if it was given any."""

    def __init__(self, ports: list[int], topic: str, draw: random.Random, restless: bool):
        self.received: list[str] = []
        self.has_begun = asyncio.Event()
        self._ports, self._topic, self._draw, self._restless = ports, topic, draw, restless
        self._last_id = None
        self._task = asyncio.create_task(self._run())

    def be_calm(self) -> None:
        self._restless = False

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            writers = []
            with contextlib.suppress(OSError, EOFError, TimeoutError):
                async with asyncio.timeout(self._stay_s()):
                    await self._read(writers)
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(self._draw.uniform(0.01, 0.1))

    def _stay_s(self) -> float | None:
        return 0.1 + self._draw.expovariate(1 / RESTLESS_S) if self._restless else None

    async def _read(self, writers: list[asyncio.StreamWriter]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._draw.choice(self._ports))
        writers.append(writer)
        known = f"last-event-id: {self._last_id}\r\n" if self._last_id else ""
        head = f"GET /events?topic={self._topic} HTTP/1.1\r\nhost: localhost\r\n{known}\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        text, id = b"", None
        while length := int(await reader.readuntil(b"\r\n"), 16):
            text += (await reader.readexactly(length + 2))[:-2]
            *lines, text = text.split(b"\n")
            for line in lines:
                if line.startswith(b"id: "):
                    id = line[4:].decode()
                elif line.startswith(b"data: ") and not line.startswith(b"data: {"):
                    self.received.append(line[6:].decode())
                    self._last_id = id
                    self.has_begun.set()


async def losses(
    contender: Contender, redis: Redis, readers: int, events: int, restless: bool, restarts: bool
) -> dict:
    """Acknowledged events that readers never got, and those they got twice."""
    topic = "restless" if restless else "restart"
    draw = random.Random(1)
    clients = [
        Reader(contender.ports, topic, random.Random(draw.random()), restless)
        for _ in range(readers)
    ]
    posters = [Poster(port) for port in contender.ports]
    first = 0
    while not all(client.has_begun.is_set() for client in clients):
        await posters[first % PROCESSES].post(topic, f"first {first}")
        first += 1
        await asyncio.sleep(0.05)
    restart = None
    for number in range(events):
        if restarts and number == events // 3:
            restart = asyncio.create_task(asyncio.to_thread(restarted, redis))
        await posters[number % PROCESSES].post(topic, f"event {number}")
        await asyncio.sleep(0.01)
    if restart is not None:
        await restart
    for client in clients:
        client.be_calm()
    await quiet(clients)
    for client in clients:
        await client.close()
    for poster in posters:
        poster.drop()
    wanted = {f"event {number}" for number in range(events)}
    lost = sum(len(wanted.difference(client.received)) for client in clients)
    doubled = sum(len(client.received) - len(set(client.received)) for client in clients)
    return {"of": events * readers, "lost": lost, "doubled": doubled}


def restarted(redis: Redis) -> None:
    redis.stop()
    redis.start()


async def quiet(clients: list[Reader]) -> None:
    """Waits until nobody receives anything any more, for longer than a reconnect takes."""
    before = -1
    while before != (now := sum(len(client.received) for client in clients)):
        before = now
        await asyncio.sleep(3)


@contextlib.contextmanager
def running(kind: type[Contender]) -> Iterator[tuple[Contender, Redis]]:
    redis = Redis()
    contender = kind(redis)
    try:
        yield contender, redis
    finally:
        contender.close()
        redis.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument(
        "--loads",
        nargs="+",
        default=["15x1", "1.5x20"],
        help="how often a second, and how many publishers at the same time",
    )
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--events", type=int, default=500)
    said = parser.parse_args()
    kinds = [Tidings, NodeHub]
    print(f"{PROCESSES} processes each, {said.streams} streams, events of {DATA_BYTES} bytes")
    for load in said.loads:
        rate, burst = float(load.split("x")[0]), int(load.split("x")[1])
        key = "deliveries for a CPU second"
        figures = {kind.name: [] for kind in kinds}
        for round in range(said.rounds):
            # In turns, so that whatever else the machine does is shared.
            for kind in kinds if round % 2 == 0 else kinds[::-1]:
                with running(kind) as (contender, _):
                    measured = asyncio.run(cost(contender, said.streams, rate, burst, said.seconds))
                figures[kind.name].append(measured[key])
                rounded = {name: round_(value) for name, value in measured.items()}
                print(f"{load} a second, round {round} {kind.name}: {rounded}", flush=True)
        ours, theirs = (statistics.median(figures[kind.name]) for kind in kinds)
        print(
            f"{load} a second: {round_(ours)} beside {round_(theirs)}: {ours / theirs:.1f} times",
            flush=True,
        )
    for title, how in {
        "clients reconnect during publishes": {"restless": True, "restarts": False},
        "Redis restarts": {"restless": False, "restarts": True},
    }.items():
        for kind in kinds:
            with running(kind) as (contender, redis):
                found = asyncio.run(losses(contender, redis, said.readers, said.events, **how))
            print(f"{title}: {kind.name}: {found}", flush=True)


def round_(value: float) -> float:
    return int(value) if value >= 100 else float(f"{value:.1f}")


if __name__ == "__main__":
    main()
