"""Who is there: asked, told, and right when a hub is killed, on one node and on three."""

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from guarded import check_refused
from hub import Hub
from stream import Stream
from tokens import SECRET, bearer, claims, sign

GRACE_S = 2
DEAD_S = 10  # until the others take a node for dead
OPTIONS = ("--presence", "chat/{room}", "--presence-grace", f"{GRACE_S}s", "--retry", "100ms")


def token(user: str, *, presence: list[str] | None = None) -> dict:
    """The headers of somebody who may read every room."""
    said = claims(user, subscribe=["chat/{room}"])
    if presence is not None:
        said["tidings"]["presence"] = presence
    return bearer(sign(said))


KNOWING = token("watcher", presence=["*"])


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "hub.key"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


def start(tmp_path: Path, key: Path, name: str = "hub", **where: object) -> Hub:
    return Hub("--key-file", str(key), *OPTIONS, log=tmp_path / f"{name}.log", **where)


def enter(hub: Hub, user: str, room: str = "chat/1") -> Stream:
    return Stream(hub.port, headers=token(user), topic=room)


def watch(hub: Hub, after: str | None = None) -> Stream:
    query = {"topic": "tidings.presence/chat/1"} | ({"lastEventId": after} if after else {})
    return Stream(hub.port, headers=KNOWING, **query)


def news(watching: Stream) -> tuple[str, str, int]:
    event = watching.event()
    assert event.id
    data = json.loads(event.data)
    assert data["topic"] == "chat/1"
    return event.event, data["user"], data["users"]


def present(hub: Hub) -> dict[str, int]:
    """Who is there, with how many streams."""
    answer = hub.client.get("/presence", params={"topic": "chat/1"}, headers=KNOWING)
    assert answer.status_code == 200, answer.text
    (topic,) = answer.json()["topics"]
    assert topic["users"] == len(topic["members"])
    return {member["user"]: member["connections"] for member in topic["members"]}


def wait_for(hub: Hub, expected: dict[str, int], within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while (found := present(hub)) != expected:
        assert time.monotonic() < deadline, f"{found}, not {expected}"
        time.sleep(0.05)


def test_a_page_knows_who_is_there(tmp_path: Path, key: Path):
    hub = start(tmp_path, key)
    try:
        ann = [enter(hub, "ann"), enter(hub, "ann")]
        watching = watch(hub)
        bob = enter(hub, "bob")
        wait_for(hub, {"ann": 2, "bob": 1})
        assert {news(watching)[1] for _ in range(2)} == {"ann", "bob"}
        bob.close()
        # A reload is no news: what comes next is that ann left, or bob did, once.
        bob = enter(hub, "bob")
        answer = hub.client.get("/presence?topic=chat/1", headers=KNOWING)
        following = watch(hub, after=answer.json()["lastEventId"])
        ann[0].close()
        ann[1].close()
        left_at = time.monotonic()
        assert news(following) == ("tidings.left", "ann", 1)
        assert time.monotonic() - left_at >= GRACE_S - 0.1
        assert news(watching) == ("tidings.left", "ann", 1)
        assert present(hub) == {"bob": 1}
        assert hub.metric("tidings_presence_leader") == 1
    finally:
        hub.close()


def test_rights(tmp_path: Path, key: Path):
    hub = start(tmp_path, key)
    try:
        watching = watch(hub)
        ann = enter(hub, "ann")
        assert news(watching) == ("tidings.joined", "ann", 1)
        answer = hub.client.get("/presence?topic=chat/1", headers=token("bob"))
        assert answer.json()["topics"] == [{"topic": "chat/1", "subscribers": 1, "users": 1}]
        stranger = bearer(sign(claims("eve", subscribe=["other"])))
        for topic in ("chat/1", "chat/2", "none"):
            answer = hub.client.get(f"/presence?topic={topic}", headers=stranger)
            check_refused(answer, 403, "missing-right", topic)
        everything = bearer(sign(claims("backend", publish=["*"], subscribe=["*"])))
        answer = hub.client.get("/presence?topic=none", headers=everything)
        check_refused(answer, 404, "presence-off")
        for event in ({"topic": "tidings.presence/chat/1"}, {"topic": "tidings.presence"}):
            answer = hub.client.post("/events", json=event, headers=everything)
            check_refused(answer, 400, "invalid-topic")
        # Who may read all topics is not told who joins them.
        blind = Stream(hub.port, headers=everything, topic="*")
        joined = enter(hub, "cat")
        assert news(watching)[1] == "cat"
        hub.client.post("/events", json={"topic": "a", "data": "1"}, headers=everything)
        assert blind.event().data == "1"
        joined.close()
        ann.close()
    finally:
        hub.close()


def test_a_hub_that_was_killed_does_not_tell_again(tmp_path: Path, key: Path):
    data = tmp_path / "data"
    hub = start(tmp_path, key, data=data)
    watching = watch(hub)
    streams = [enter(hub, user) for user in ("ann", "bob")]
    assert {news(watching)[1] for _ in streams} == {"ann", "bob"}
    last = hub.client.get("/presence?topic=chat/1", headers=KNOWING).json()["lastEventId"]
    hub.kill()
    hub = start(tmp_path, key, name="after", data=data)
    try:
        ann = enter(hub, "ann")
        watching = watch(hub, after=last)
        assert news(watching) == ("tidings.left", "bob", 1)
        assert present(hub) == {"ann": 1}
        ann.close()
    finally:
        hub.close()


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[str]:
    """The URL of a log in a Redis of its own."""
    program = shutil.which("redis-server")
    assert program, "cargo xtask install brings redis-server along"
    socket = tmp_path / "redis.sock"
    process = subprocess.Popen(
        [program, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", tmp_path],
        stdout=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while not socket.exists():
            assert time.monotonic() < deadline, "redis-server does not start"
            time.sleep(0.02)
        yield f"redis+unix://{socket}"
    finally:
        process.kill()
        process.wait()


def test_three_nodes_tell_each_change_once(tmp_path: Path, key: Path, redis: str):
    hubs = [start(tmp_path, key, name=f"node-{n}", store=redis) for n in range(3)]
    try:
        watching = watch(hubs[1])
        ann = enter(hubs[0], "ann")
        assert news(watching) == ("tidings.joined", "ann", 1)
        bob = enter(hubs[2], "bob")
        assert news(watching) == ("tidings.joined", "bob", 2)
        for hub in hubs:
            wait_for(hub, {"ann": 1, "bob": 1})
        # From node to node within the grace is no news.
        ann.close()
        ann = enter(hubs[1], "ann")
        cat = enter(hubs[0], "cat")
        assert news(watching) == ("tidings.joined", "cat", 3)
        # The oldest node tells; it is killed, and one of its two users comes back elsewhere.
        hubs[0].kill()
        dan = enter(hubs[1], "dan")
        assert news(watching) == ("tidings.joined", "dan", 4)
        bob_too = enter(hubs[1], "bob")
        killed_at = time.monotonic()
        assert news(watching) == ("tidings.left", "cat", 3)
        assert time.monotonic() - killed_at < DEAD_S + GRACE_S + 10
        for hub in hubs[1:]:
            wait_for(hub, {"ann": 1, "bob": 2, "dan": 1})
        # A node that is asked to end tells the others at once, and its users are still there.
        bob.close()
        hubs[2].begin_shutdown()
        for stream in (ann, bob_too, dan):
            stream.close()
        left = [news(watching) for _ in range(3)]
        assert sorted(name for _, name, _ in left) == ["ann", "bob", "dan"]
        assert [users for _, _, users in left] == [2, 1, 0]
        assert {kind for kind, _, _ in left} == {"tidings.left"}
        wait_for(hubs[1], {})
        # Each change once: the log has no other events about them.
        query = {"topic": "tidings.presence", "last": "earliest", "mode": "poll", "wait": 0}
        headers = KNOWING | {"accept": "application/json"}
        batch = hubs[1].client.get("/events", params=query, headers=headers).json()["events"]
        turns: dict[str, list[str]] = {}
        for event in batch:
            turns.setdefault(json.loads(event["data"])["user"], []).append(event["event"])
        both = ["tidings.joined", "tidings.left"]
        assert turns == {name: both for name in ("ann", "bob", "cat", "dan")}
    finally:
        for hub in hubs:
            hub.close()
