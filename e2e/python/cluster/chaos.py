"""Runs in which everything happens that may happen to nodes and their engine, drawn from a seed.

    python -m cluster.chaos --engine redis --minutes 30

Prints the seed of each run. `--seed` repeats one: the schedule is the same, the timing is that of
the machine.
"""

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from cluster.checker import Gap, Ledger, Received, Record, violations
from cluster.clients import Publisher, Subscriber, query_for
from cluster.engines import ENGINES
from cluster.nodes import Node, Nodes

TOPICS = 8
SETTLE_S = 240
PROBLEMS_MAX = 20
PUBLISHES_MIN = 30

# What happens, how often relative to others, and to whom.
FAULTS = {
    "kill node": 4,
    "freeze node": 3,
    "stop node": 2,
    "kill engine": 2,
    "stop engine": 1,
    "freeze engine": 2,
    "cut engine": 4,
    "refuse engine": 2,
    "delay engine": 2,
    "stall engine": 2,
    "swallow answers": 3,
    "swallow all": 1,
    "trickle engine": 1,
    "cut clients": 3,
    "stall clients": 1,
}


@dataclass
class Fault:
    """Something that goes wrong for a while; times count from the start of the run."""

    name: str
    begins_s: float
    ends_s: float
    node: int
    amount: float

    def __str__(self) -> str:
        times = f"{self.begins_s:.2f}-{self.ends_s:.2f} s"
        return f"{times} {self.name} (node {self.node}, {self.amount:.2f})"


@dataclass
class Plan:
    """One run."""

    seed: int
    clients: int
    publishers: int
    pause_s: float
    seconds: float
    restless_s: float | None = 1.5
    faults: list[Fault] = field(default_factory=list)

    def __str__(self) -> str:
        head = f"seed {self.seed}: {self.clients} clients, {self.publishers} publishers"
        return "\n  ".join([f"{head}, {self.seconds} s", *map(str, self.faults)])


def plan(seed: int, nodes: int = 3, clients: int | None = None, seconds: float = 2.5) -> Plan:
    """What a seed stands for."""
    draw = random.Random(seed)
    many = draw.random() < 0.12
    drawn = clients or (1000 if many else draw.randint(80, 200))
    # A thousand clients are enough work without leaving all the time.
    pause_s, restless_s = (0.15, 5.0) if drawn > 500 else (0.03, 1.5)
    made = Plan(seed, drawn, draw.randint(2, 5), pause_s, seconds, restless_s)
    names, weights = zip(*FAULTS.items(), strict=True)
    for _ in range(round(seconds * draw.uniform(0.8, 2.0))):
        begins = draw.uniform(0.1, seconds * 0.8)
        ends = begins + draw.uniform(0.05, seconds * 0.4)
        (name,) = draw.choices(names, weights)
        made.faults.append(Fault(name, begins, ends, draw.randrange(nodes), draw.random()))
    made.faults.sort(key=lambda fault: fault.begins_s)
    return made


class Run:
    """One run of a plan, on nodes that are healthy before and after."""

    def __init__(self, nodes: Nodes, plan: Plan, ledger: Ledger | None = None):
        self.plan = plan
        self.ledger = ledger or Ledger(f"run{plan.seed}")
        self.records: list[Record] = []
        self.reconnects = 0
        self._nodes = nodes
        self._draw = random.Random(plan.seed)
        self._topics = [f"{self.ledger.name}/{number}" for number in range(TOPICS)]
        # What is done to one thing is done in turn.
        self._locks: dict[object, asyncio.Lock] = {}

    async def run(self) -> list[str]:
        """Everything that was wrong."""
        faults = {fault.name for fault in self.plan.faults}
        publishers = [self._publisher(number) for number in range(self.plan.publishers)]
        first = await publishers[0].publish(self._topics, gives_up=False)
        subscribers = self._subscribers(str(first.ids[0]))
        for subscriber in subscribers:
            subscriber.start()
        problems = []
        try:
            async with asyncio.timeout(SETTLE_S + self.plan.seconds):
                await asyncio.gather(*(s.has_started.wait() for s in subscribers))
                ends = asyncio.Event()
                publishing = [
                    asyncio.create_task(publisher.run(ends, self.plan.pause_s))
                    for publisher in publishers
                ]
                happening = [self._happen(fault) for fault in self.plan.faults]
                await asyncio.gather(asyncio.sleep(self.plan.seconds), *happening)
                await asyncio.to_thread(self._nodes.heal)
                # On a machine that is busy, what happened took most of the time.
                while sum(1 for _ in self.ledger.acknowledged()) < PUBLISHES_MIN:
                    await asyncio.sleep(0.02)
                ends.set()
                await asyncio.gather(*publishing)
                problems += await self._settle(publishers[0], subscribers)
        except TimeoutError:
            problems.append(f"not settled after {SETTLE_S} s")
        finally:
            await asyncio.gather(*(client.close() for client in [*subscribers, *publishers]))
        self.reconnects = sum(subscriber.connects for subscriber in subscribers)
        lost = bool(faults & LOSING)
        problems += map(str, violations(self.ledger, self.records, lives_may_end=lost))
        return problems

    def figures(self) -> str:
        """How much happened."""
        events = sum(len(publish.data) for publish in self.ledger.publishes)
        received = sum(isinstance(i, Received) for record in self.records for i in record.seen)
        return f"{events} events, {received} receipts, {self.reconnects} connects"

    def _publisher(self, number: int) -> Publisher:
        # Some come by the way that is cut.
        port = self._nodes.way.port if number % 2 else self._nodes.proxy.port
        draw = random.Random(self._draw.random())
        return Publisher(number, self.ledger, self._topics, port, draw)

    def _subscribers(self, start: str) -> list[Subscriber]:
        made = []
        for number in range(self.plan.clients):
            draw = random.Random(self._draw.random())
            kind = draw.choices(["all", "everything", "some", "one"], [5, 1, 3, 1])[0]
            match kind:
                case "all":
                    asked, topics = [f"{self.ledger.name}/{{number}}"], frozenset(self._topics)
                case "everything":
                    asked, topics = ["*"], None
                case "some":
                    asked = draw.sample(self._topics, draw.randint(2, 4))
                    topics = frozenset(asked)
                case "one":
                    asked = [draw.choice(self._topics)]
                    topics = frozenset(asked)
            record = Record(f"client {number}", topics)
            self.records.append(record)
            by_way = draw.random() < 0.1
            # Some begin where the hub says that they do: at what comes next, or at what is kept.
            begin = draw.choices(["id", "next", "earliest"], [8, 1, 1 if topics else 0])[0]
            how = {"last": "earliest"} if begin == "earliest" else {}
            made.append(
                Subscriber(
                    record,
                    query_for(asked, **how),
                    self._nodes.way.port if by_way else self._nodes.proxy.port,
                    draw,
                    start=start if begin == "id" else None,
                    restless_s=self.plan.restless_s if draw.random() < 0.9 else None,
                    lazy=draw.random() < 0.1,
                )
            )
        return made

    async def _settle(self, publisher: Publisher, subscribers: list[Subscriber]) -> list[str]:
        """Waits until everybody has the last event, which is for all."""
        for subscriber in subscribers:
            subscriber.restless_s = None
        last = await publisher.publish(self._topics, gives_up=False)
        end = last.ids[-1]
        deadline = time.monotonic() + SETTLE_S / 2
        waiting = subscribers
        while waiting := [s for s in waiting if not has_come(s.record, end)]:
            if time.monotonic() > deadline:
                behind = [f"{s.record.name} at {s.last_id}" for s in waiting[:10]]
                return [f"{len(waiting)} clients never got {end}: {', '.join(behind)}"]
            await asyncio.sleep(0.02)
        return []

    async def _happen(self, fault: Fault) -> None:
        await asyncio.sleep(fault.begins_s)
        begin, end = self._deeds(fault)
        await begin()
        await asyncio.sleep(fault.ends_s - fault.begins_s)
        await end()

    def _deeds(self, fault: Fault) -> tuple[Callable[[], Awaitable], Callable[[], Awaitable]]:
        """What makes it happen, and what mends it."""
        node = self._nodes.nodes[fault.node % len(self._nodes.nodes)]
        engine = self._nodes.engine
        # To one node, or for every third fault to all.
        hit = self._nodes.nodes if fault.amount < 0.3 else [node]
        if engine is None and ("engine" in fault.name or "swallow" in fault.name):
            return self._deed(self, lambda: None), self._deed(self, lambda: None)

        def at_ways(deed: Callable[[Node], object]) -> Callable[[], Awaitable]:
            return self._deed(hit[0], lambda: [deed(each) for each in hit])

        mend = at_ways(lambda each: each.way.heal())
        clients = self._nodes.way
        match fault.name:
            case "kill node":
                return self._deed(node, node.kill), self._deed(node, node.start)
            case "stop node":
                return self._deed(node, node.stop), self._deed(node, node.start)
            case "freeze node":
                return self._deed(node, node.freeze), self._deed(node, node.thaw)
            case "kill engine":
                return self._deed(engine, engine.kill), self._deed(engine, engine.start)
            case "stop engine":
                return self._deed(engine, engine.stop), self._deed(engine, engine.start)
            case "freeze engine":
                return self._deed(engine, engine.freeze), self._deed(engine, engine.thaw)
            case "empty engine":
                return self._deed(engine, engine.restart_empty), self._deed(engine, lambda: None)
            case "cut engine":
                return at_ways(lambda each: each.way.cut(0.7)), mend
            case "refuse engine":
                return at_ways(lambda each: each.way.refuse()), mend
            case "delay engine":
                return at_ways(lambda each: each.way.delay(fault.amount * 0.2)), mend
            case "stall engine":
                return at_ways(lambda each: each.way.stall()), mend
            case "swallow answers":
                return at_ways(lambda each: each.way.swallow_answers()), mend
            case "swallow all":
                return at_ways(lambda each: each.way.swallow()), mend
            case "trickle engine":
                return at_ways(lambda each: each.way.trickle(20_000)), mend
            case "cut clients":
                some = self._deed(clients, lambda: clients.cut(0.5))
                return some, self._deed(clients, clients.cut)
            case "stall clients":
                return self._deed(clients, clients.stall), self._deed(clients, clients.heal)
        raise AssertionError(fault.name)

    def _deed(self, thing: object, what: Callable[[], object]) -> Callable[[], Awaitable]:
        async def do() -> None:
            async with self._locks.setdefault(thing, asyncio.Lock()):
                await asyncio.to_thread(what)

        return do


LOSING = {"empty engine"}


def has_come(record: Record, end: object) -> bool:
    """Whether a client has an event; it is among the last if it has."""
    return any(isinstance(item, Received) and item.id == end for item in record.seen[-50:])


def gaps(record: Record) -> list[Gap]:
    """What a client was told of."""
    return [item for item in record.seen if isinstance(item, Gap)]


class Endurance:
    """Run after run on the same nodes; new ones after a run that failed."""

    def __init__(self, engine: str | None, *options: str):
        self._engine_name = engine
        self._options = options
        self._engine = None
        self._nodes: Nodes | None = None

    def run(self, made: Plan) -> tuple[list[str], str]:
        """What was wrong, and how much happened."""
        if self._nodes is None:
            if self._engine_name is not None:
                self._engine = ENGINES[self._engine_name]()
            self._nodes = Nodes(self._engine, *self._options)
        run = Run(self._nodes, made)
        try:
            problems = asyncio.run(run.run())
        except BaseException:
            self.close()
            raise
        if problems:
            problems = problems[:PROBLEMS_MAX] + self._said()
            self.close()
        return problems, run.figures()

    def _said(self) -> list[str]:
        nodes = enumerate(self._nodes.nodes)
        return [f"what node {number} said:\n{node.said()[-8000:]}" for number, node in nodes]

    def close(self) -> None:
        """Ends whatever runs."""
        if self._nodes is not None:
            self._nodes.close()
            self._nodes = None
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def check(endurance: Endurance, made: Plan) -> None:
    """A run in which nothing was wrong."""
    print(made)
    problems, _ = endurance.run(made)
    assert not problems, "\n".join([str(made), *problems])


def first_seed() -> int:
    """The seed of the first run: `TIDINGS_CLUSTER_SEED`, or any."""
    return int(os.environ.get("TIDINGS_CLUSTER_SEED") or random.randrange(1 << 32))


def run_count() -> int:
    """How many runs the tests make on each engine: `TIDINGS_CLUSTER_RUNS`, or 25."""
    return int(os.environ.get("TIDINGS_CLUSTER_RUNS") or 25)


def main() -> int:
    parser = argparse.ArgumentParser(prog="cluster.chaos", description=__doc__.splitlines()[0])
    parser.add_argument("--engine", choices=[*ENGINES, "none"], default="redis")
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seconds", type=float, default=2.5, help="of each run")
    parser.add_argument("--clients", type=int, help="by default as the seed says")
    parser.add_argument("--seed", type=int, help="of the first run; the next has the next number")
    parser.add_argument("--runs", type=int, default=sys.maxsize)
    said = parser.parse_args()
    seed = first_seed() if said.seed is None else said.seed
    endurance = Endurance(None if said.engine == "none" else said.engine)
    ends_at = time.monotonic() + said.minutes * 60
    failed, number = [], 0
    try:
        while number < said.runs and time.monotonic() < ends_at:
            made = plan(seed + number, clients=said.clients, seconds=said.seconds)
            begun = time.monotonic()
            problems, figures = endurance.run(made)
            took = time.monotonic() - begun
            result = "FAILED" if problems else "ok"
            print(f"seed {made.seed}: {result}, {took:.1f} s, {figures}", flush=True)
            if problems:
                failed.append(made.seed)
                print(made, *problems, sep="\n", flush=True)
            number += 1
    finally:
        endurance.close()
    print(f"{number} runs, {len(failed)} failed: {failed}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
