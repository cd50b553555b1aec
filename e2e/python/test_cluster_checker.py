"""The checker itself: a run that went well passes, and each fault that is put into it is caught."""

import asyncio
import copy
import random
from collections.abc import Callable

import pytest

from cluster.breaking_proxy import BreakingProxy
from cluster.chaos import Plan, Run
from cluster.checker import Began, Gap, Id, Ledger, Publish, Received, Record, violations
from cluster.nodes import Nodes

TOPICS = tuple(f"t/{number}" for number in range(4))


def good_run(seed: int) -> tuple[Ledger, list[Record]]:
    """Publishes, and what clients receive of them by the rules."""
    draw = random.Random(seed)
    ledger, log = Ledger(), []
    for number in range(60):
        count = draw.choice([1, 1, 1, 3])
        data = tuple(f"{number}.{index}" for index in range(count))
        ids = tuple(Id("aaaa", len(log) + 1 + index) for index in range(count))
        topics = tuple(draw.sample(TOPICS, draw.choice([1, 2])))
        fate = draw.random()
        known = ids if fate < 0.9 else None
        ledger.publishes.append(Publish(number % 3, topics, data, float(number), known))
        if fate < 0.95:
            log += [(Received(id, item), topics) for id, item in zip(ids, data, strict=True)]
    records = []
    for number in range(12):
        topics = None if number < 4 else frozenset(draw.sample(TOPICS, 2))
        start = draw.choice([0, 5, 20])
        seen = [Began(Id("aaaa", start))]
        seen += [
            event
            for event, under in log
            if event.id.offset > start and (topics is None or topics & set(under))
        ]
        records.append(Record(f"client {number}", topics, seen))
    return ledger, records


def anew(ledger: Ledger, records: list[Record], told: bool = True) -> None:
    """The engine loses everything; one event is published after that."""
    ledger.publishes.append(Publish(9, TOPICS, ("after",), 1000.0, (Id("bbbb", 1),)))
    for record in records:
        # Each was somewhere else when it happened.
        del record.seen[len(record.seen) - int(record.name.split()[1]) % 4 :]
        last = record.seen[-1].id
        if told:
            record.seen.append(Gap("tidings.gap", "unknown-epoch", str(last)))
        record.seen.append(Received(Id("bbbb", 1), "after"))


def events_of(record: Record) -> list[int]:
    return [index for index, item in enumerate(record.seen) if isinstance(item, Received)]


def skip(draw: random.Random, record: Record) -> None:
    del record.seen[draw.choice(events_of(record))]


def repeat(draw: random.Random, record: Record) -> None:
    index = draw.choice(events_of(record))
    record.seen.insert(draw.randint(index + 1, len(record.seen)), record.seen[index])


def reorder(draw: random.Random, record: Record) -> None:
    index = draw.choice(events_of(record)[:-1])
    seen = record.seen
    seen[index], seen[index + 1] = seen[index + 1], seen[index]


def relabel(draw: random.Random, record: Record) -> None:
    """The ids are in order, and the events under them are not."""
    index = draw.choice(events_of(record)[:-1])
    one, other = record.seen[index : index + 2]
    record.seen[index : index + 2] = [Received(one.id, other.data), Received(other.id, one.data)]


def invent(draw: random.Random, record: Record) -> None:
    record.seen.append(Received(Id("aaaa", 10_000), "nobody's"))


def invent_a_gap(draw: random.Random, record: Record) -> None:
    record.seen.insert(draw.choice(events_of(record)), Gap("tidings.gap", "trimmed", "aaaa-1"))


def cut_short(draw: random.Random, record: Record) -> None:
    del record.seen[-1]


FAULTS = [
    (skip, {"missing", "hole"}),
    (repeat, {"repeated"}),
    (reorder, {"out of order", "repeated", "missing", "hole"}),
    (relabel, {"two under one id", "doubled"}),
    (invent, {"invented", "hole"}),
    (invent_a_gap, {"gap"}),
    (cut_short, {"missing"}),
]


@pytest.mark.parametrize("seed", range(20))
def test_good_run_passes(seed):
    ledger, records = good_run(seed)
    # What nobody acknowledged may be in the log or not: then nobody can ask for every offset.
    assert violations(ledger, records) == []


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("fault", "kinds"), FAULTS, ids=[fault.__name__ for fault, _ in FAULTS])
def test_one_fault_at_one_client_is_caught(fault: Callable, kinds: set[str], seed: int):
    draw = random.Random(seed)
    ledger, records = good_run(seed)
    victim = draw.choice([record for record in records if len(events_of(record)) > 3])
    fault(draw, victim)
    found = violations(ledger, records)
    assert found and {violation.kind for violation in found} <= kinds, list(map(str, found))


def test_event_that_no_client_received_is_missed():
    ledger, records = good_run(1)
    lost = next(ledger.acknowledged())
    for record in records:
        record.seen = [item for item in record.seen if getattr(item, "data", "") not in lost.data]
    missing = [v.text for v in violations(ledger, records) if v.kind == "missing"]
    assert any(repr(lost.data[0]) in text for text in missing)


def test_publish_that_took_effect_twice_is_caught():
    ledger, records = good_run(2)
    again = Received(Id("aaaa", 1000), ledger.publishes[3].data[0])
    for record in records:
        record.seen.append(again)
    assert "doubled" in {violation.kind for violation in violations(ledger, records)}


def test_half_of_an_array_is_caught():
    ledger, records = good_run(3)
    publish = next(p for p in ledger.publishes if p.ids is not None and len(p.data) == 3)
    publish.ids = None
    for record in records:
        record.seen = [i for i in record.seen if getattr(i, "data", "") != publish.data[1]]
    found = {violation.kind for violation in violations(ledger, records, is_whole=False)}
    assert found == {"half-published"}


def test_ids_that_go_backwards_for_a_publisher_are_caught():
    ledger, records = good_run(4)
    first, second = [p for p in ledger.acknowledged() if p.publisher == 0][:2]
    at = [ledger.publishes.index(publish) for publish in (first, second)]
    ledger.publishes[at[0]], ledger.publishes[at[1]] = second, first
    assert {v.kind for v in violations(ledger, records)} == {"out of order"}


def test_repeated_publish_that_got_another_id_is_caught():
    ledger, records = good_run(5)
    ledger.publishes[0].answers_differ = "aaaa-1, then aaaa-2"
    assert {v.kind for v in violations(ledger, records)} == {"answers differ"}


@pytest.mark.parametrize("seed", range(20))
def test_life_that_ended_may_end_early_and_is_told(seed):
    ledger, records = good_run(seed)
    anew(ledger, records)
    assert violations(ledger, records, lives_may_end=True) == []
    allowed_nowhere = violations(ledger, records)
    assert len([v for v in allowed_nowhere if v.kind == "gap"]) == len(records)


def test_life_that_ended_without_a_word_is_caught():
    ledger, records = good_run(6)
    anew(ledger, records, told=False)
    found = violations(ledger, records, lives_may_end=True)
    assert {violation.kind for violation in found} == {"not told"}


def test_loss_in_a_life_that_ended_is_caught():
    ledger, records = good_run(7)
    anew(ledger, records)
    victim = next(record for record in records if len(events_of(record)) > 5)
    del victim.seen[events_of(victim)[1]]
    assert "missing" in {v.kind for v in violations(ledger, records, lives_may_end=True)}


def test_return_to_an_earlier_life_is_caught():
    ledger, records = good_run(8)
    anew(ledger, records)
    back = copy.deepcopy(records[0].seen[1])
    records[0].seen += [Gap("tidings.gap", "unknown-epoch", "bbbb-1"), back]
    found = {v.kind for v in violations(ledger, records, lives_may_end=True)}
    assert "out of order" in found


def test_client_that_stays_in_the_past_is_caught():
    ledger, records = good_run(9)
    anew(ledger, records)
    del records[0].seen[-2:]
    assert "missing" in {v.kind for v in violations(ledger, records, lives_may_end=True)}


BREAKS = {
    "nothing": (lambda blocks: blocks, set()),
    "skip": (lambda blocks: [], {"missing", "hole"}),
    "repeat": (lambda blocks: blocks * 2, {"repeated"}),
    "reorder": (
        lambda blocks: blocks[::-1] if len(blocks) == 2 else None,
        {"out of order", "missing", "hole"},
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_run_against_a_broken_hub_fails(name: str):
    breaks, kinds = BREAKS[name]
    nodes = Nodes(None)
    try:
        nodes.way.close()
        nodes.way = BreakingProxy(nodes.nodes[0].port, breaks, after=30)
        # Whoever leaves before the next event gets what was skipped after all, as from a good hub.
        calm = Plan(1, clients=100, publishers=3, pause_s=0.02, seconds=1, restless_s=None)
        problems = asyncio.run(Run(nodes, calm).run())
    finally:
        nodes.close()
    assert nodes.way.has_broken, nodes.way.passed
    assert {problem.split(":")[0] for problem in problems} <= kinds, problems
    assert bool(problems) == bool(kinds)
