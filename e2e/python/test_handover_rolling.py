"""Three nodes on one log are replaced, one after the other, behind a proxy that knows no stickiness,
while events are published: nothing is lost, and nothing comes twice.

Clients have nothing to do with each other's connections: subscribers resume with the last id they saw,
publishers repeat with a key what was not answered, and both meet whichever node the proxy chooses.
"""

import asyncio
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from cluster.checker import Ledger, Received, Record, violations
from cluster.clients import Publisher, Subscriber, query_for
from cluster.engines import ENGINES, Engine
from cluster.nodes import OPTIONS, Node, Nodes
from hub import Hub
from proxies import Certificate, DeployedNginx

TOPICS = [f"topic/{number}" for number in range(6)]
SUBSCRIBERS = 60
PUBLISHERS = 4
SETTLE_S = 30
# Two checks of HAProxy, of which the last may just have begun, and as much again for a busy machine.
DELAY = ["--drain-delay", "1500ms"]


@pytest.fixture(scope="module", params=sorted(ENGINES))
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = ENGINES[request.param]()
    yield engine
    engine.close()


@dataclass
class Crowd:
    """Publishers and subscribers that come through one port, and what they have seen."""

    port: int
    seed: int
    ledger: Ledger = field(init=False)
    records: list[Record] = field(default_factory=list)
    subscribers: list[Subscriber] = field(default_factory=list)
    publishers: list[Publisher] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Keys follow from the name, and the engine knows those of the crowds before.
        self.ledger = Ledger(f"crowd{self.seed}")

    async def begin(self) -> None:
        draw = random.Random(self.seed)
        self._until = asyncio.Event()
        for number in range(SUBSCRIBERS):
            wanted = ["*"] if number % 2 else draw.sample(TOPICS, 2)
            topics = None if number % 2 else frozenset(wanted)
            record = Record(f"subscriber {number}", topics)
            self.records.append(record)
            self.subscribers.append(
                Subscriber(record, query_for(wanted), self.port, random.Random(draw.random()))
            )
        for subscriber in self.subscribers:
            subscriber.start()
        await asyncio.gather(*(it.has_started.wait() for it in self.subscribers))
        self.publishers = [
            Publisher(number, self.ledger, TOPICS, self.port, random.Random(draw.random()))
            for number in range(PUBLISHERS)
        ]
        self._publishing = [
            asyncio.create_task(publisher.run(self._until, 0.02)) for publisher in self.publishers
        ]

    async def wait_for_more(self, count: int) -> None:
        """Waits until so many more requests were acknowledged."""
        wanted = sum(1 for _ in self.ledger.acknowledged()) + count
        deadline = time.monotonic() + 60
        while sum(1 for _ in self.ledger.acknowledged()) < wanted:
            assert time.monotonic() < deadline
            for task in self._publishing:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)

    async def end(self) -> None:
        """Publishes something last, and waits until everybody has it."""
        self._until.set()
        await asyncio.gather(*self._publishing)
        last = await self.publishers[0].publish(TOPICS, gives_up=False)
        deadline = time.monotonic() + SETTLE_S
        while not all(self._has(record, last.data[-1]) for record in self.records):
            assert time.monotonic() < deadline, self._without(last.data[-1])
            await asyncio.sleep(0.05)
        for client in [*self.subscribers, *self.publishers]:
            await client.close()

    def check(self) -> None:
        """Every acknowledged event reached everybody it is for, once and in order."""
        found = violations(self.ledger, self.records)
        assert not found, "\n".join([f"seed {self.seed}", *map(str, found[:20])])

    @property
    def refused_publishes(self) -> int:
        return sum(publisher.refusals for publisher in self.publishers)

    @property
    def connects(self) -> int:
        return sum(subscriber.connects for subscriber in self.subscribers)

    def _without(self, data: str) -> str:
        """Who did not get an event, and how they are."""
        lacking = [
            f"{it.record.name} ({it.connects} connects, {it.refusals} refusals) is at {it.last_id}"
            for it in self.subscribers
            if not self._has(it.record, data)
        ]
        return "\n".join([f"seed {self.seed}: {len(lacking)} did not get the last event", *lacking])

    @staticmethod
    def _has(record: Record, data: str) -> bool:
        return any(isinstance(it, Received) and it.data == data for it in reversed(record.seen))


async def restart(node: Node) -> None:
    """As a supervisor does: asks it to end, waits, starts the next one, waits until that is ready."""
    await asyncio.to_thread(node.stop)
    await asyncio.to_thread(node.start)
    await asyncio.to_thread(node.wait_until_ready)


async def take_over(node: Node) -> None:
    """Starts the next one beside it, which takes over."""
    old = node.hub

    def start_next() -> Hub:
        log = node.folder / f"stderr{time.monotonic_ns()}"
        store = node._engine.url(node.way.port)
        return Hub(*OPTIONS, *node._options, log=log, port=node.port, store=store)

    node.hub = await asyncio.to_thread(start_next)
    assert await asyncio.to_thread(old.wait) == 0
    assert node.hub.pid != old.pid


def replaced(
    nodes: Nodes, port: int, replace: Callable, rounds: int = 1
) -> tuple[Crowd, float]:
    """Replaces each node under load, and gives who was there and how long it took."""
    crowd = Crowd(port, seed=random.randrange(1 << 32))
    print(f"seed {crowd.seed}")

    async def run() -> float:
        await crowd.begin()
        begun = time.monotonic()
        for _ in range(rounds):
            for node in nodes.nodes:
                await crowd.wait_for_more(40)
                await replace(node)
        await crowd.wait_for_more(40)
        took = time.monotonic() - begun
        await crowd.end()
        return took

    took = asyncio.run(run())
    crowd.check()
    return crowd, took


def told(how: str, crowd: Crowd, took: float) -> str:
    acknowledged = sum(len(publish.ids) for publish in crowd.ledger.acknowledged())
    return (
        f"{how}: three nodes replaced in {took:.0f} s, {acknowledged} events to {SUBSCRIBERS} "
        f"subscribers, {crowd.connects - SUBSCRIBERS} reconnects, {crowd.refused_publishes} publishes "
        "refused and repeated, none lost, none twice"
    )


def test_behind_haproxy_nobody_is_even_refused(engine, figure):
    nodes = Nodes(engine, *DELAY)
    try:
        crowd, took = replaced(nodes, nodes.proxy.port, restart)
        assert crowd.refused_publishes == 0
        assert sum(it.refusals for it in crowd.subscribers) == 0
        figure(told(f"{engine.name}, HAProxy", crowd, took))
    finally:
        nodes.close()


def test_behind_nginx_which_does_not_look_first(engine, figure, tmp_path):
    nodes = Nodes(engine)
    # Others than root's are to run it.
    Path(tmp_path).chmod(0o755)
    nginx = DeployedNginx([node.port for node in nodes.nodes], Certificate(tmp_path), tmp_path)
    try:
        crowd, took = replaced(nodes, nginx.inside_port, restart)
        figure(told(f"{engine.name}, nginx", crowd, took))
    finally:
        nginx.close()
        nodes.close()


def test_who_takes_over_in_place_is_not_noticed_by_the_proxy(engine, figure):
    nodes = Nodes(engine, *DELAY, count=3)
    try:
        for node in nodes.nodes:
            # The first of them waits for the second.
            node.stop()
            node._options = (*node._options, "--takeover", str(node.folder / "takeover"))
            node.start()
            node.wait_until_ready()
        crowd, took = replaced(nodes, nodes.proxy.port, take_over)
        assert crowd.refused_publishes == 0
        figure(told(f"{engine.name}, HAProxy, taken over in place", crowd, took))
    finally:
        nodes.close()
