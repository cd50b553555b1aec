"""Random users, groups, events and readers against a small model of who may receive what.

The model knows nothing of the hub's code: it holds what was published, and for each reader where it
began, what it asked for and what its token says. From that follows what the reader receives, which
is compared with what it did receive: the same events, each once, in the same order.

`TIDINGS_RIGHTS_SEED` repeats one run.
"""

import json
import os
import random
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from guarded import POLL
from hub import Hub
from stream import Stream
from tokens import bearer, claims, sign

STEPS = 250
SEEDS_COUNT = 6
GIVEN = os.environ.get("TIDINGS_RIGHTS_SEED")
DICE = random.SystemRandom()
SEEDS = [int(GIVEN)] if GIVEN else [DICE.getrandbits(32) for _ in range(SEEDS_COUNT)]

USERS = ["ann", "bob", "cem", "dea"]
GROUPS = ["1", "2", "3"]
TOPICS = [f"users/{user}" for user in USERS] + [f"groups/{group}" for group in GROUPS] + ["news"]
PATTERNS = ["users/{id}", "groups/{id}", "{kind}/1", "{+all}", "*"]
TYPES = [None, "a", "b"]
# Every reader asks for it, and everyone may receive it: what comes before it has come.
END = "end"


# The model


def contains(selector: str, topic: str) -> bool:
    """Whether a selector means a topic: `{+x}` stands for anything, `{x}` for a part of a path."""
    if selector in ("*", topic):
        return True
    parts = re.split(r"(\{\+?\w+\})", selector)
    if len(parts) == 1:
        return False
    regex = "".join(
        (".*" if part.startswith("{+") else "[^/]*") if number % 2 else re.escape(part)
        for number, part in enumerate(parts)
    )
    return re.fullmatch(regex, topic) is not None


@dataclass
class Published:
    """An event, as the hub took it."""

    id: str
    topics: list[str]
    type: str | None
    is_private: bool
    data: str

    def is_wanted(self, selectors: list[str], types: list[str]) -> bool:
        if types and (self.type or "message") not in types:
            return False
        return any(contains(selector, topic) for selector in selectors for topic in self.topics)

    def is_allowed(self, rights: list[str]) -> bool:
        if not self.is_private:
            return True
        return any(contains(right, topic) for right in rights for topic in self.topics)


@dataclass
class Reader:
    """Somebody who reads, and where that began: before the event of this number."""

    rights: list[str]
    selectors: list[str]
    types: list[str]
    begin: int
    last: int | None = None
    stream: Stream | None = None
    ticket: str | None = None
    user: str | None = None
    expires: bool = False
    seen: list[tuple] = field(default_factory=list)

    def expected(self, log: list[Published], end: int | None = None) -> list[tuple]:
        """What it receives of the log up to the event number `end`."""

        def received(events: list[Published]) -> list[tuple]:
            wanted = (event for event in events if event.is_wanted(self.selectors, self.types))
            return [(it.id, it.type, it.data) for it in wanted if it.is_allowed(self.rights)]

        old = received(log[: self.begin])[-self.last :] if self.last else []
        return old + received(log[self.begin : end])

    def forbidden(self, log: list[Published]) -> list[tuple]:
        """What it may not receive, though it asked for it."""
        wanted = (event for event in log if event.is_wanted(self.selectors, self.types))
        return [(it.id, it.type, it.data) for it in wanted if not it.is_allowed(self.rights)]


class Mismatch(Exception):
    """A reader received something else than the model says."""


# The run

Tamper = Callable[[Reader, list[tuple], list[Published]], list[tuple]]


class Run:
    """One hub, and whoever publishes to it and reads from it."""

    def __init__(self, hub: Hub, dice: random.Random, default_private: bool, tamper: Tamper | None):
        self.hub = hub
        self.dice = dice
        self.default_private = default_private
        self.tamper = tamper
        self.log: list[Published] = []
        self.readers: list[Reader] = []
        # Readers that are gone, and the number of the event after which they go on.
        self.gone: list[tuple[Reader, int]] = []
        self.groups = {user: self.some(GROUPS, 0) for user in USERS}
        self.publisher = bearer(sign(claims("backend", publish=["*"])))
        self.counts = dict.fromkeys(("received", "forbidden", "expired", "resumed", "polls"), 0)

    def some(self, choices: list, least: int = 1, most: int = 3) -> list:
        return self.dice.sample(choices, self.dice.randint(least, min(most, len(choices))))

    def step(self) -> None:
        steps = [
            (self.publish, 50),
            (self.open, 14),
            (self.resume, 12),
            (self.poll, 10),
            (self.leave, 8),
            (self.settle, 3),
            (self.change_groups, 3),
        ]
        (step,) = self.dice.choices([step for step, _ in steps], [weight for _, weight in steps])
        step()

    def publish(self) -> None:
        """Publishes one event, or several at once."""
        bodies = []
        for _ in range(self.dice.choice([1, 1, 1, 4])):
            body = {"topic": self.some(TOPICS), "data": f"event {len(self.log) + len(bodies)}"}
            private = self.dice.choice([None, False, True])
            type_ = self.dice.choice(TYPES)
            bodies.append(
                body
                | ({} if private is None else {"private": private})
                | ({} if type_ is None else {"event": type_})
            )
        self.send(bodies)

    def send(self, bodies: list[dict]) -> None:
        answer = self.hub.client.post("/events", json=bodies, headers=self.publisher)
        assert answer.status_code == 200, answer.text
        for id, body in zip(answer.json()["ids"], bodies, strict=True):
            is_private = body.get("private", self.default_private)
            type_, data = body.get("event"), body["data"]
            self.log.append(Published(id, body["topic"], type_, is_private, data))

    def rights_of(self, user: str | None) -> list[str]:
        if user is None:
            return []
        # The last of them sees all groups, and all that Ann sees.
        all_ = ["groups/{id}", "users/{+any}"] if user == USERS[-1] else []
        return [f"users/{user}", *(f"groups/{group}" for group in self.groups[user]), *all_]

    def token(self, user: str, rights: list[str], **said: object) -> str:
        """The rights in one of the claims that they may stand in."""
        all_ = claims(user, subscribe=rights, **said)
        said = all_.pop("tidings")
        name = self.dice.choice(["tidings", "mercure", "https://mercure.rocks/"])
        return sign(all_ | {name: said})

    def reader(self, begin: int, last: int | None = None) -> Reader:
        user = self.dice.choice([*USERS, *USERS, None])
        selectors = [*self.some([*TOPICS, *PATTERNS]), END]
        types = self.dice.choice([[], [], [], ["a", "message"]])
        return Reader(self.rights_of(user), selectors, types, begin, last, user=user)

    def open(self) -> None:
        """Somebody begins to read: from now on, or from the past that is kept."""
        begin, query = self.dice.choice(
            [
                (len(self.log), {}),
                (0, {"last": "earliest"}),
                (len(self.log), {"last": self.dice.randint(1, 9)}),
                *self.after_any_id(),
            ]
        )
        last = query.get("last")
        self.connect(self.reader(begin, last if isinstance(last, int) else None), query)

    def after_any_id(self) -> Iterator[tuple[int, dict]]:
        """Ids of whatever events there are, also of such as the reader may not receive."""
        if self.log:
            number = self.dice.randrange(len(self.log))
            yield number + 1, {"lastEventId": self.log[number].id}

    def connect(self, reader: Reader, query: dict) -> None:
        way = self.dice.choice(["header", "header", "query", "ticket"])
        headers, wanted = {}, {"topic": reader.selectors, "event": reader.types}
        reader.expires = reader.user is not None and self.dice.random() < 0.1
        lasts = {"exp": int(time.time()) + 2} if reader.expires else {}
        if reader.user is not None:
            token = self.token(reader.user, reader.rights, **lasts)
            if way == "header":
                headers = bearer(token)
            elif way == "query":
                query = query | {"access_token": token}
            else:
                body = {"topics": reader.selectors, "events": reader.types} | query
                answer = self.hub.client.post("/tickets", json=body, headers=bearer(token))
                assert answer.status_code == 200, answer.text
                url = answer.json()["url"]
                reader.ticket = url.removeprefix("/events?ticket=")
                wanted, query = {}, {"ticket": reader.ticket}
        reader.stream = Stream(self.hub.port, headers=headers, **wanted, **query)
        self.readers.append(reader)

    def leave(self) -> None:
        """A reader goes away in the middle of what it receives."""
        if not self.readers:
            return
        reader = self.readers.pop(self.dice.randrange(len(self.readers)))
        if reader.expires:
            self.outlive(reader)
            return
        expected = reader.expected(self.log)
        expected = expected[: self.dice.randint(len(reader.seen), len(expected))]
        self.read(reader, expected)
        self.check(reader, expected)
        reader.stream.close()
        self.gone.append((reader, self.number_after(reader)))

    def number_after(self, reader: Reader) -> int:
        """Where a reader goes on: behind what it saw last, or where it began."""
        if not reader.seen:
            return -1 if reader.last else reader.begin
        return next(n for n, it in enumerate(self.log, 1) if it.id == reader.seen[-1][0])

    def resume(self) -> None:
        """A reader that was gone comes back, or somebody else with its id, or with its topics."""
        if not self.gone:
            return
        gone, after = self.gone.pop(self.dice.randrange(len(self.gone)))
        if after <= 0:
            return
        id = {"lastEventId": self.log[after - 1].id}
        if gone.ticket is not None and self.dice.random() < 0.7:
            if gone.expires or not gone.seen:
                return
            reader = Reader(gone.rights, gone.selectors, gone.types, after, ticket=gone.ticket, user=gone.user)  # fmt: skip
            reader.stream = Stream(self.hub.port, ticket=gone.ticket, **id)
            self.readers.append(reader)
        else:
            reader = self.reader(after)
            if self.dice.random() < 0.7:
                reader.user, reader.rights = gone.user, self.rights_of(gone.user)
                reader.selectors, reader.types = gone.selectors, gone.types
            self.connect(reader, id)
        self.counts["resumed"] += 1

    def outlive(self, reader: Reader) -> None:
        """Reads until the token has expired, and the rest with a new one.

        What comes before and after is together what the model says. What is published once the
        end was seen does not come: the stream is over.
        """
        while (event := reader.stream.event()).id is not None:
            reader.seen.append(tuple(event[:3]))
        if (event.event, json.loads(event.data)) != ("tidings.expired", {"reason": "expired"}):
            raise Mismatch(f"{event} for a token that expires")
        self.publish()
        with pytest.raises(EOFError):
            reader.stream.event()
        reader.stream.close()
        self.check(reader, reader.expected(self.log)[: len(reader.seen)])
        after = self.number_after(reader)
        self.counts["expired"] += 1
        if after > 0:
            rest = Reader(reader.rights, reader.selectors, reader.types, after, user=reader.user)
            token = self.token(reader.user, reader.rights)
            wanted = {"topic": rest.selectors, "event": rest.types}
            id = {"lastEventId": self.log[after - 1].id}
            rest.stream = Stream(self.hub.port, headers=bearer(token), **wanted, **id)
            self.readers.append(rest)

    def poll(self) -> None:
        """Somebody reads in batches, by ids of their own or of others."""
        begin, query = self.dice.choice([(0, {"last": "earliest"}), *self.after_any_id()])
        reader = self.reader(begin)
        headers = {"accept": "application/json"}
        if reader.user is not None:
            headers |= bearer(self.token(reader.user, reader.rights))
        wanted = {"topic": reader.selectors, "event": reader.types} | POLL
        while query is not None:
            answer = self.hub.client.get("/events", params=wanted | query, headers=headers)
            assert answer.status_code == 200, answer.text
            batch = answer.json()
            for event in batch["events"]:
                reader.seen.append((event["id"], event.get("event"), event["data"]))
            query = {"lastEventId": batch["lastEventId"]} if batch["events"] else None
        self.check(reader, reader.expected(self.log))
        self.counts["polls"] += 1

    def change_groups(self) -> None:
        """Streams that are open keep the rights that they were opened with."""
        user = self.dice.choice(USERS)
        self.groups[user] = self.some(GROUPS, 0)

    def settle(self) -> None:
        """Whatever was published has come to everyone who is there."""
        self.send([{"topic": [END], "data": "end", "private": False, "event": "a"}])
        for reader in list(self.readers):
            if not reader.expires:
                expected = reader.expected(self.log)
                self.read(reader, expected)
                self.check(reader, expected)

    def finish(self) -> None:
        for reader in [reader for reader in self.readers if reader.expires]:
            self.readers.remove(reader)
            self.outlive(reader)
        # Twice, so that what comes after the end of the first is seen, too.
        self.settle()
        self.settle()
        for reader in self.readers:
            reader.stream.close()

    def read(self, reader: Reader, expected: list[tuple]) -> None:
        """Reads until the last of the expected events was seen."""
        while expected and (not reader.seen or reader.seen[-1] != expected[-1]):
            event = reader.stream.event()
            if event.id is None:
                raise Mismatch(f"{event}, which is none of the events")
            reader.seen.append(tuple(event[:3]))

    def check(self, reader: Reader, expected: list[tuple]) -> None:
        """Compares what was seen with what the model says."""
        received = reader.seen
        if self.tamper is not None:
            received = self.tamper(reader, list(received), self.log)
        self.counts["received"] += len(expected)
        self.counts["forbidden"] += len(reader.forbidden(self.log))
        if received != expected:
            extra = [event for event in received if event not in expected]
            missing = [event for event in expected if event not in received]
            raise Mismatch(
                f"{reader.user} with {reader.rights} for {reader.selectors} {reader.types}, from "
                f"{reader.begin}, last {reader.last}: too much {extra}, too little {missing}, "
                f"received {received}"
            )


def run(start_hub, secret_file, seed: int, tamper: Tamper | None = None) -> dict[str, int]:
    """Plays all steps of a seed. Raises Mismatch."""
    dice = random.Random(seed)
    default_private = dice.random() < 0.5
    options = ["--default-private"] if default_private else []
    hub = start_hub("--key-file", secret_file, "--anonymous", *options)
    game = Run(hub, dice, default_private, tamper)
    try:
        for _ in range(STEPS):
            game.step()
        game.finish()
    finally:
        for reader in game.readers:
            reader.stream.close()
        hub.kill()
    return game.counts


@pytest.mark.parametrize("seed", SEEDS)
def test_everyone_receives_what_the_model_says(start_hub, secret_file, figure, seed):
    counts = run(start_hub, secret_file, seed)
    figure(f"TIDINGS_RIGHTS_SEED={seed}: {counts}")
    assert counts["received"] > 100 and counts["forbidden"] > 100, counts
    assert min(counts.values()) > 0, counts


def lose_one(reader: Reader, received: list[tuple], log: list[Published]) -> list[tuple]:
    return received[1:]


def double_one(reader: Reader, received: list[tuple], log: list[Published]) -> list[tuple]:
    return received[:1] + received


def swap_two(reader: Reader, received: list[tuple], log: list[Published]) -> list[tuple]:
    return received[1:2] + received[:1] + received[2:]


def add_forbidden(reader: Reader, received: list[tuple], log: list[Published]) -> list[tuple]:
    return sorted(received + reader.forbidden(log)[:1], key=lambda it: [e.id for e in log].index(it[0]))  # fmt: skip


@pytest.mark.parametrize("tamper", [lose_one, double_one, swap_two, add_forbidden])
def test_model_notices_what_goes_wrong(start_hub, secret_file, tamper):
    with pytest.raises(Mismatch):
        run(start_hub, secret_file, 1, tamper)
