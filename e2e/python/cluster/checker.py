"""What subscribers may have received, given what was published: decided from records alone.

Publishers and clients are watched while things happen to nodes and engines. Afterwards `violations`
says where the promise was broken: every acknowledged event reaches every client whose start it
follows, once, in the one order of the log.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple


class Id(NamedTuple):
    """An event's id, which is opaque to clients, and not to those who check the hub."""

    epoch: str
    offset: int

    @classmethod
    def parse(cls, text: str) -> "Id":
        epoch, _, offset = text.rpartition("-")
        return cls(epoch, int(offset))

    def __str__(self) -> str:
        return f"{self.epoch}-{self.offset}"


@dataclass
class Publish:
    """A request with one event or several. The data of an event names it: no two have the same."""

    publisher: int
    topics: tuple[str, ...]
    data: tuple[str, ...]
    begun_at: float
    ids: tuple[Id, ...] | None = None  # if it was acknowledged
    answers_differ: str | None = None  # when a repeated one was answered with other ids


@dataclass
class Ledger:
    """Everything that publishers have sent, in the order in which each of them sent it."""

    name: str = "run"
    publishes: list[Publish] = field(default_factory=list)

    def acknowledged(self) -> Iterator[Publish]:
        """Those that were answered with ids."""
        return (publish for publish in self.publishes if publish.ids is not None)


class Received(NamedTuple):
    """An event as it came."""

    id: Id
    data: str


class Gap(NamedTuple):
    """What a client was told instead of events that it misses."""

    kind: str
    reason: str
    requested: str


class Began(NamedTuple):
    """Where a client starts: what is after this id is for it."""

    id: Id


@dataclass
class Record:
    """What one client has seen over all its connections, in order."""

    name: str
    topics: frozenset[str] | None  # None: all there are
    seen: list[Received | Gap | Began] = field(default_factory=list)


class Violation(NamedTuple):
    """Where the promise was broken."""

    kind: str
    who: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.who}: {self.text}"


def violations(
    ledger: Ledger, records: Iterable[Record], lives_may_end: bool = False, is_whole: bool = True
) -> list[Violation]:
    """Everything that is wrong.

    `lives_may_end`: the engine has lost events or began anew, so clients may be told
    `unknown-epoch`, and of a life that has ended they may miss the end. `is_whole`: nobody else
    publishes and nothing is trimmed, so whoever asks for everything receives every offset.
    """
    records = list(records)
    found: list[Violation] = []
    log = _Log(ledger, records, found)
    for publish in ledger.publishes:
        found.extend(_wrong_answers(publish, log, lives_may_end))
    found.extend(_wrong_orders(ledger))
    for record in records:
        found.extend(_Reading(record, log, lives_may_end, is_whole).violations())
    return found


class _Log:
    """What is known to be in the log, from all that was acknowledged and received."""

    def __init__(self, ledger: Ledger, records: list[Record], found: list[Violation]):
        self.topics_of = {
            data: publish.topics for publish in ledger.publishes for data in publish.data
        }
        self.ids_of: dict[str, set[Id]] = defaultdict(set)
        self.lives: dict[str, dict[int, str]] = defaultdict(dict)
        acknowledged = list(ledger.acknowledged())
        for publish in acknowledged:
            for id, data in zip(publish.ids, publish.data, strict=True):
                self._learn(Received(id, data), f"publisher {publish.publisher}", found)
        for record in records:
            for item in record.seen:
                if isinstance(item, Received):
                    self._learn(item, record.name, found)
        for data, ids in self.ids_of.items():
            epochs = [id.epoch for id in ids]
            if len(set(epochs)) < len(epochs):
                text = f"{data!r} is in the log as {' and '.join(map(str, sorted(ids)))}"
                found.append(Violation("doubled", "log", text))
        last = max(acknowledged, key=lambda publish: publish.begun_at, default=None)
        self.last_epoch = last.ids[-1].epoch if last else None
        # In order: asked for each client.
        self.order = {epoch: sorted(life) for epoch, life in self.lives.items()}

    def _learn(self, event: Received, who: str, found: list[Violation]) -> None:
        if event.data not in self.topics_of:
            text = f"{event.data!r} as {event.id} was never published"
            found.append(Violation("invented", who, text))
            return
        life = self.lives[event.id.epoch]
        known = life.setdefault(event.id.offset, event.data)
        if known != event.data:
            text = f"{event.id} is {event.data!r} here and {known!r} elsewhere"
            found.append(Violation("two under one id", who, text))
        self.ids_of[event.data].add(event.id)

    def expected(self, epoch: str, after: int, topics: frozenset[str] | None) -> Iterator[int]:
        """The offsets of what is for somebody, from a start on."""
        life = self.lives.get(epoch, {})
        for offset in self.order.get(epoch, []):
            if offset > after and (
                topics is None or not topics.isdisjoint(self.topics_of[life[offset]])
            ):
                yield offset


def _wrong_answers(publish: Publish, log: _Log, lives_may_end: bool) -> Iterator[Violation]:
    who = f"publisher {publish.publisher}"
    if publish.answers_differ:
        yield Violation("answers differ", who, f"{publish.data}: {publish.answers_differ}")
    if publish.ids is not None and list(publish.ids) != sorted(set(publish.ids)):
        yield Violation("out of order", who, f"{publish.data} got {list(map(str, publish.ids))}")
    there = [data in log.ids_of for data in publish.data]
    # Of a life that has ended, what nobody was told of is not known to have been there.
    if any(there) and not all(there) and not lives_may_end:
        text = f"of {publish.data} only a part is in the log: {there}"
        yield Violation("half-published", who, text)


def _wrong_orders(ledger: Ledger) -> Iterator[Violation]:
    """Each publisher waits for an answer before it publishes the next."""
    last: dict[tuple[int, str], Id] = {}
    for publish in ledger.acknowledged():
        key = (publish.publisher, publish.ids[0].epoch)
        if key in last and publish.ids[0] <= last[key]:
            text = f"{publish.data} got {publish.ids[0]} after {last[key]} was acknowledged"
            yield Violation("out of order", f"publisher {publish.publisher}", text)
        last[key] = publish.ids[-1]


class _Reading:
    """One client's record, read from its beginning."""

    def __init__(self, record: Record, log: _Log, lives_may_end: bool, is_whole: bool):
        self._record = record
        self._log = log
        self._lives_may_end = lives_may_end
        self._is_dense = is_whole and record.topics is None
        self._found: list[Violation] = []
        self._past: set[str] = set()
        self._epoch: str | None = None
        self._start = 0
        self._offsets: list[int] = []
        self._was_told = False

    def violations(self) -> list[Violation]:
        for item in self._record.seen:
            match item:
                case Began():
                    self._begin(item.id)
                case Gap():
                    self._handle_gap(item)
                case Received():
                    self._handle_event(item)
        self._end_life(is_last=True)
        if self._epoch != self._log.last_epoch:
            self._add("missing", f"it is in {self._epoch}, the log in {self._log.last_epoch}")
        return self._found

    def _begin(self, id: Id) -> None:
        if self._epoch is None:
            self._epoch, self._start = id

    def _handle_gap(self, gap: Gap) -> None:
        if gap.kind != "tidings.gap" or gap.reason != "unknown-epoch" or not self._lives_may_end:
            self._add("gap", f"{gap.kind} {gap.reason} after {gap.requested}")
        self._was_told = True

    def _handle_event(self, event: Received) -> None:
        epoch, offset = event.id
        if epoch != self._epoch:
            self._change_life(epoch, event)
        topics = self._log.topics_of.get(event.data)
        wanted = self._record.topics
        if topics is not None and wanted is not None and wanted.isdisjoint(topics):
            self._add("not asked for", f"{event.id} {event.data!r} under {topics}")
        last = self._offsets[-1] if self._offsets else self._start
        if offset > last:
            self._offsets.append(offset)
        elif offset in self._offsets:
            self._add("repeated", f"{event.id} {event.data!r} came again after {epoch}-{last}")
        else:
            self._add("out of order", f"{event.id} {event.data!r} came after {epoch}-{last}")

    def _change_life(self, epoch: str, event: Received) -> None:
        if self._epoch is not None:
            if not self._was_told:
                self._add("not told", f"{event.id} came in {self._epoch} without a gap")
            self._end_life(is_last=False)
            self._past.add(self._epoch)
        if epoch in self._past:
            self._add("out of order", f"{event.id} is of an earlier life than {self._epoch}")
        self._epoch, self._start, self._offsets, self._was_told = epoch, 0, [], False

    def _end_life(self, is_last: bool) -> None:
        """All that was for this client has come; of a life that has ended, up to where it was."""
        if self._epoch is None:
            return
        came = set(self._offsets)
        until = None if is_last else max(came, default=self._start)
        for offset in self._log.expected(self._epoch, self._start, self._record.topics):
            if until is not None and offset > until:
                break
            if offset not in came:
                data = self._log.lives[self._epoch][offset]
                self._add("missing", f"{self._epoch}-{offset} {data!r} never came")
        if self._is_dense:
            for before, after in zip([self._start, *self._offsets], self._offsets):
                if after != before + 1:
                    self._add("hole", f"{self._epoch}-{after} came after {self._epoch}-{before}")

    def _add(self, kind: str, text: str) -> None:
        self._found.append(Violation(kind, self._record.name, text))
