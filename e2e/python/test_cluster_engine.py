"""What publishers, streams and operators see of an engine that misbehaves, and that it mends."""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

import httpx
import pytest

from cluster.engines import ENGINES, PASSWORD, Engine
from cluster.nodes import Node, Nodes
from cluster.waiting import wait_for
from hub import BINARY
from stream import Stream

pytestmark = pytest.mark.timeout(600)

# An append may take 5 s until its publisher is told that nobody knows what became of it. While the
# engine is known to be away nobody waits for that.
REFUSAL_S = 4.5


@pytest.fixture(scope="module", params=[*ENGINES])
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    engine = ENGINES[request.param]()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def shared(engine: Engine) -> Iterator[Nodes]:
    nodes = Nodes(engine)
    yield nodes
    nodes.close()


@pytest.fixture
def nodes(shared: Nodes) -> Iterator[Nodes]:
    """Three nodes that are healthy."""
    shared.heal()
    yield shared


class Outage(NamedTuple):
    """What keeps nodes from appending, and what ends that."""

    begin: Callable[[Nodes], object]
    end: Callable[[Nodes], object]
    only: str | None = None
    can_read: bool = False


def at_ways(fault: str) -> Outage:
    """A fault on the way of each node to the engine."""
    return Outage(
        lambda nodes: [getattr(node.way, fault)() for node in nodes.nodes],
        lambda nodes: [node.way.heal() for node in nodes.nodes],
    )


def at_engine(begin: str, end: str, **others: object) -> Outage:
    """Something that happens to the engine itself."""
    return Outage(
        lambda nodes: getattr(nodes.engine, begin)(),
        lambda nodes: getattr(nodes.engine, end)(),
        **others,
    )


OUTAGES = {
    "unreachable": at_ways("refuse"),
    "silent": at_ways("stall"),
    "swallowed": at_ways("swallow"),
    "frozen": at_engine("freeze", "thaw"),
    "stopped": at_engine("stop", "start"),
    "killed": at_engine("kill", "start"),
    "read-only": at_engine("make_read_only", "make_writable", can_read=True),
    "full": at_engine("fill", "make_room", only="redis", can_read=True),
    "with another password": Outage(
        lambda nodes: nodes.engine.change_password("another"),
        lambda nodes: nodes.engine.change_password(PASSWORD),
    ),
}


def publish(node: Node, topic: str, data: str, timeout: float = 30) -> httpx.Response:
    """Publishes with a key, so that it can be repeated."""
    event = {"topic": topic, "data": data, "key": f"{topic}:{data}"}
    return node.hub.client.post("/events", json=event, timeout=timeout)


def published(node: Node, topic: str, data: str) -> str:
    answer = publish(node, topic, data)
    assert answer.status_code == 200, answer.text
    return answer.json()["id"]


def check_refused(answer: httpx.Response) -> None:
    """A refusal that says what is wrong, and when to come again."""
    problem = answer.json()
    said = (answer.status_code, problem["type"])
    assert said == (503, "urn:tidings:problem:log-unavailable"), answer.text
    assert problem["detail"] and PASSWORD not in answer.text
    assert int(answer.headers["retry-after"]) > 0


def wait_until_known(node: Node) -> str:
    """Waits until the node says that its log is away, and returns why."""

    def is_known() -> bool:
        # Whether a store can be written, shows when it is.
        publish(node, "asked", "whether it can be written")
        return node.readiness()[0] == 503

    wait_for(is_known, lambda: f"{node.readiness()}\n{node.hub.said()}")
    status = json.loads(node.readiness()[1])
    assert status["reason"] == "log-unavailable", status
    assert status["detail"] and PASSWORD not in status["detail"]
    assert node.hub.client.get("/health/live").status_code == 200
    return status["detail"]


def next_event(stream: Stream) -> tuple[str | None, str]:
    event = stream.event()
    return event.id, event.data


@pytest.mark.parametrize("name", OUTAGES)
def test_outage_refuses_publishers_keeps_streams_and_mends_itself(nodes, engine, topic, name):
    outage = OUTAGES[name]
    if outage.only not in {None, engine.name}:
        pytest.skip(f"only {outage.only} has that")
    with ExitStack() as ends:
        streams = [ends.enter_context(Stream(n.port, topic=topic)) for n in nodes.nodes]
        before = published(nodes.nodes[0], topic, "before")
        assert [next_event(stream) for stream in streams] == [(before, "before")] * 3
        outage.begin(nodes)
        for node in nodes.nodes:
            wait_until_known(node)
        for node in nodes.nodes:
            for number in range(10):
                check_refused(publish(node, topic, f"refused {number}", timeout=REFUSAL_S))
        for stream in streams:
            stream.heartbeat()
            stream.heartbeat()
        if outage.can_read:
            with Stream(nodes.nodes[1].port, topic=topic, last="earliest") as reader:
                assert next_event(reader) == (before, "before")
        outage.end(nodes)
        for node in nodes.nodes:
            node.wait_until_ready()
        after = [published(n, topic, f"after {number}") for number, n in enumerate(nodes.nodes)]
        expected = [(id, f"after {number}") for number, id in enumerate(after)]
        for stream in streams:
            assert [next_event(stream) for _ in after] == expected
        assert published(nodes.nodes[1], topic, "before") == before, "the key is still known"


def test_slow_engine_is_waited_for(nodes, topic):
    for node in nodes.nodes:
        node.way.delay(0.1)
    with Stream(nodes.nodes[1].port, topic=topic) as stream:
        ids = [published(nodes.nodes[0], topic, str(number)) for number in range(5)]
        assert [next_event(stream) for _ in ids] == [(id, str(n)) for n, id in enumerate(ids)]
        assert all(node.readiness()[0] == 200 for node in nodes.nodes)


def test_emptied_engine_is_announced_in_streams_that_go_on(nodes, engine, topic):
    with ExitStack() as ends:
        streams = [ends.enter_context(Stream(n.port, topic=topic)) for n in nodes.nodes]
        before = published(nodes.nodes[0], topic, "before")
        assert [next_event(stream) for stream in streams] == [(before, "before")] * 3
        engine.restart_empty()
        for node in nodes.nodes:
            node.wait_until_ready()
        after = published(nodes.nodes[2], topic, "after")
        assert after.split("-")[0] != before.split("-")[0]
        for stream in streams:
            gap = stream.event()
            assert (gap.id, gap.event) == (None, "tidings.gap")
            said = json.loads(gap.data)
            assert (said["requested"], said["reason"]) == (before, "unknown-epoch")
            assert next_event(stream) == (after, "after")
    for node in nodes.nodes:
        with Stream(node.port, topic=topic, lastEventId=before) as stream:
            assert json.loads(stream.event().data)["reason"] == "unknown-epoch"
            assert next_event(stream) == (after, "after")


def test_node_that_starts_without_its_engine_takes_it_up(nodes, engine, topic):
    first, late, *_ = nodes.nodes
    seen = published(first, topic, "seen")
    missed = published(first, topic, "missed")
    late.stop()
    late.way.refuse()
    late.start()
    status, said = late.readiness()
    assert (status, json.loads(said)["reason"]) == (503, "log-unavailable")
    check_refused(publish(late, topic, "too early"))
    # It knows no id, so it can begin no stream. Whoever comes is told to come again.
    with Stream(late.port, topic=topic, lastEventId=seen) as told:
        assert int(told.line().removeprefix("retry: ")) > 0
        with pytest.raises(EOFError):
            told.event()
    late.way.heal()
    late.wait_until_ready()
    with Stream(late.port, topic=topic, lastEventId=seen) as back:
        after = published(first, topic, "after")
        assert next_event(back) == (missed, "missed")
        assert next_event(back) == (after, "after")


@pytest.mark.parametrize("name", ENGINES)
def test_wrong_password_ends_the_start_with_words(engine, name, tmp_path):
    if engine.name != name:
        pytest.skip("the other engine")
    url = engine.url(password="wrong-as-can-be")
    done = subprocess.run(
        [BINARY, "serve", "--listen", "127.0.0.1:0", "--log", url],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (1, ""), done
    assert "password" in done.stderr.lower() and str(engine.port) in done.stderr, done.stderr
    assert "wrong-as-can-be" not in done.stderr


# A node that doubles its pauses tries about ten times in the time that this takes, with a few
# connections at once. One that tries for each publish, stream or read comes to hundreds.
ATTEMPTS_MAX = 60
REFUSALS = 150


def test_engine_that_refuses_is_not_stormed(nodes, topic):
    known = published(nodes.nodes[0], topic, "known")
    ways = [node.way for node in nodes.nodes]
    before = [way.attempts for way in ways]
    for way in ways:
        way.refuse()
    for node in nodes.nodes:
        wait_until_known(node)
    with ExitStack() as ends:
        strangers = [
            ends.enter_context(Stream(node.port, topic=topic, lastEventId="zzzzzzzzzz-7"))
            for node in nodes.nodes
            for _ in range(20)
        ]
        for number in range(REFUSALS):
            check_refused(publish(nodes.nodes[number % 3], topic, "refused", timeout=REFUSAL_S))
        for stream in strangers:
            stream.heartbeat()
            stream.heartbeat()
        attempts = [way.attempts - earlier for way, earlier in zip(ways, before, strict=True)]
        assert all(0 < count <= ATTEMPTS_MAX for count in attempts), attempts
        before = [way.attempts for way in ways]
        for way in ways:
            way.heal()
        for node in nodes.nodes:
            node.wait_until_ready()
        for stream in strangers:
            gap = stream.event()
            assert (gap.event, json.loads(gap.data)["reason"]) == ("tidings.gap", "unknown-epoch")
            assert next_event(stream) == (known, "known")
        attempts = [way.attempts - earlier for way, earlier in zip(ways, before, strict=True)]
        assert all(0 < count <= ATTEMPTS_MAX for count in attempts), attempts
