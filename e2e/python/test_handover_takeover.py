"""A new process takes over from the one that runs: no connection is refused, nothing is lost or told
twice, and whatever goes wrong before the new one serves leaves the old one serving."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from hub import BINARY, Hub
from stream import Stream


class Place:
    """Where one hub after the other runs: a folder, a socket, a port."""

    def __init__(self, folder: Path, memory: bool = False):
        self.folder = folder
        self.path = folder / "takeover"
        self.data = None if memory else folder / "data"
        self.hubs: list[Hub] = []

    def start(self, *options: object, port: int = 0) -> Hub:
        log = self.folder / f"stderr{len(self.hubs)}"
        hub = Hub("--takeover", self.path, *options, log=log, data=self.data, port=port)
        self.hubs.append(hub)
        return hub

    def close(self) -> None:
        for hub in self.hubs:
            hub.close()


@pytest.fixture
def place(tmp_path) -> Iterator[Place]:
    place = Place(tmp_path)
    yield place
    place.close()


class Publisher(threading.Thread):
    """Publishes numbers one after the other, each on a new connection or all on kept ones, with a key,
    so that whatever has no answer can be repeated."""

    def __init__(self, port: int, topic: str, kept: bool):
        super().__init__()
        self.url, self.topic, self.kept = f"http://127.0.0.1:{port}/events", topic, kept
        self.ids: list[str] = []
        self.longest = 0.0
        self.refused: list[str] = []
        self.stopping = threading.Event()
        self.start()

    def run(self) -> None:
        client = httpx.Client(timeout=60)
        while not self.stopping.is_set():
            event = {"topic": self.topic, "data": len(self.ids), "key": f"{self.topic}{len(self.ids)}"}
            begun = time.monotonic()
            while True:
                try:
                    answer = client.post(self.url, json=event)
                except httpx.RemoteProtocolError as error:
                    # A kept connection that was closed just when it was used.
                    assert self.kept, error
                    continue
                if answer.status_code == 200:
                    break
                self.refused.append(answer.text)
                assert answer.status_code == 503 and answer.headers["retry-after"], answer.text
            self.longest = max(self.longest, time.monotonic() - begun)
            self.ids.append(answer.json()["id"])
            if not self.kept:
                client.close()
                client = httpx.Client(timeout=60)
        client.close()

    def wait_for_more(self, count: int) -> None:
        wanted, deadline = len(self.ids) + count, time.monotonic() + 60
        while len(self.ids) < wanted:
            assert self.is_alive() and time.monotonic() < deadline
            time.sleep(0.01)

    def stop(self) -> None:
        self.stopping.set()
        self.join()


class Subscriber(threading.Thread):
    """Reads what is published, and resumes whenever its stream ends."""

    def __init__(self, port: int, topic: str):
        super().__init__()
        self.port, self.topic = port, topic
        self.events: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.streams = 0
        self.stopping = threading.Event()
        self.stream: Stream | None = None
        self.opened = threading.Event()
        self.start()
        assert self.opened.wait(20)

    def run(self) -> None:
        while not self.stopping.is_set():
            headers = {"last-event-id": self.events[-1][0]} if self.events else {}
            # A refused connection is a failure of the test, and so is an answer that turns away.
            with Stream(self.port, headers=headers, topic=self.topic) as stream:
                self.stream = stream
                self.streams += 1
                self.opened.set()
                try:
                    while not self.stopping.is_set():
                        event = stream.event()
                        if event.id is None:
                            self.told.append(event.event)
                        else:
                            self.events.append((event.id, event.data))
                except (EOFError, OSError, ValueError, AttributeError):
                    pass

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + 60
        while len(self.events) < count:
            assert self.is_alive() and time.monotonic() < deadline, (len(self.events), count)
            time.sleep(0.01)

    def stop(self) -> None:
        self.stopping.set()


@pytest.mark.parametrize("kept", [False, True], ids=["new connections", "kept connections"])
def test_nothing_is_refused_lost_or_told_twice(place, topic, figure, kept):
    hub = place.start()
    publisher = Publisher(hub.port, topic, kept)
    subscribers = [Subscriber(hub.port, topic) for _ in range(20)]
    pauses = []
    for _ in range(3):
        publisher.wait_for_more(20)
        publisher.longest = 0.0
        old, hub = hub, place.start("--max-selectors", "50", port=hub.port)
        assert hub.pid != old.pid
        assert old.wait() == 0
        publisher.wait_for_more(20)
        pauses.append(publisher.longest)
    publisher.stop()
    for subscriber in subscribers:
        # Those that came in the last moment saw less of the beginning.
        subscriber.wait_for(1)
    expected = list(zip(publisher.ids, map(str, range(len(publisher.ids)))))
    for subscriber in subscribers:
        begin = expected.index(subscriber.events[0])
        subscriber.wait_for(len(expected) - begin)
        assert subscriber.events == expected[begin:]
        assert "tidings.gap" not in subscriber.told
        assert subscriber.streams == 4
        subscriber.stop()
    hub.publish(topic, "the last")
    for subscriber in subscribers:
        subscriber.join(20)
    assert len(publisher.refused) <= 3, publisher.refused
    if not kept:
        assert not publisher.refused
    figure(
        f"takeover with a log on disk, 20 streams, {'kept' if kept else 'new'} connections: the longest "
        f"publishes took {', '.join(f'{pause * 1000:.0f}' for pause in pauses)} ms"
    )


def test_the_socket_is_for_its_owner_alone_and_goes_with_the_hub(place):
    hub = place.start()
    assert stat.S_IMODE(place.path.stat().st_mode) == 0o600
    assert hub.close() == 0
    assert not place.path.exists()


def test_what_a_killed_hub_left_stands_in_nobodys_way(place, topic):
    hub = place.start()
    first = hub.publish(topic, 1)
    hub.kill()
    assert place.path.exists()
    hub = place.start(port=hub.port)
    with Stream(hub.port, topic=topic, last="earliest") as stream:
        assert stream.event().id == first


def fails(place: Place, *options: object) -> str:
    """Starts a hub that does not get so far, and returns what it said."""
    ended = subprocess.run(
        [BINARY, "serve", "--takeover", place.path, *map(str, options)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=place.folder,
    )
    assert ended.returncode in (1, 2), ended
    return ended.stderr


def test_a_process_that_cannot_serve_leaves_the_old_one_serving(place, topic):
    hub = place.start()
    with Stream(hub.port, topic=topic) as stream:
        here = ["--data", place.data, "--listen"]
        for options, told in [
            ([*here, "127.0.0.1:1"], "listens on 127.0.0.1:"),
            ([*here, f"0.0.0.0:{hub.port}", "--insecure"], "cannot take over"),
            ([*here, f"127.0.0.1:{hub.port}", "--max-selectors", "0"], "max-selectors"),
            ([*here, f"127.0.0.1:{hub.port}", "--key-file", "/nowhere"], "/nowhere"),
            (
                [*here, f"127.0.0.1:{hub.port}", "--jwks-url", "http://127.0.0.1:1/keys"],
                "no usable key",
            ),
        ]:
            assert told in fails(place, *options)
            hub.publish(topic, told)
            assert stream.event().data == told, "the stream was not touched"


def test_who_fails_once_the_log_is_free_gives_it_back(place, topic, tmp_path):
    hub = place.start()
    subscriber = Subscriber(hub.port, topic)
    # So that it has an id to resume with.
    first = hub.publish(topic, "before")
    subscriber.wait_for(1)
    # It gets everything ready, and finds out only with the log that it cannot begin.
    blocked = tmp_path / "a file"
    blocked.write_text("in the way")
    told = fails(place, "--data", blocked, "--listen", f"127.0.0.1:{hub.port}")
    assert "a file" in told, told
    second = hub.publish(topic, "after")
    subscriber.wait_for(2)
    assert subscriber.events == [(first, "before"), (second, "after")]
    with Stream(hub.port, topic=topic, last="earliest") as stream:
        assert [stream.event().id for _ in range(2)] == [first, second]
    assert "this one goes on" in hub.said()
    # And it can still be taken over from.
    later = place.start(port=hub.port)
    assert hub.wait() == 0
    third = later.publish(topic, "again")
    subscriber.wait_for(3)
    assert subscriber.events[-1] == (third, "again")
    subscriber.stop()
    later.publish(topic, "the last")
    subscriber.join(20)


def test_who_is_killed_after_it_took_over_the_log_is_replaced_by_the_old_one(place, topic):
    """Speaks the protocol as a new process would, and vanishes in the middle of it."""
    hub = place.start()
    first = hub.publish(topic, 1)
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(str(place.path))
        line.sendall(json.dumps({"hello": {"protocol": 1, "version": "9.9"}}).encode() + b"\n")
        said, files, _, _ = socket.recv_fds(line, 4096, 8)
        assert json.loads(said)["offer"]["sockets"] == len(files) == 1
        copy = socket.socket(fileno=files[0])
        assert copy.getsockname()[1] == hub.port
        line.sendall(b'{"take":{"waits":true}}\n')
        assert json.loads(line.recv(4096)) == {"released": {}}
        with pytest.raises(httpx.ReadTimeout):
            # Nobody answers, and nobody refuses: it waits in the kernel.
            httpx.get(f"{hub.url}/health/ready", timeout=0.5)
        copy.close()
    assert hub.publish(topic, 2) != first
    with Stream(hub.port, topic=topic, last="earliest") as stream:
        assert [stream.event().data for _ in range(2)] == ["1", "2"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_user_gets_nothing(place):
    hub = place.start()
    place.path.chmod(0o666)
    for parent in place.path.parents[:4]:
        parent.chmod(0o755)

    def become_nobody() -> None:
        os.setgid(65534)
        os.setuid(65534)

    script = (
        "import socket, sys; line = socket.socket(socket.AF_UNIX); line.connect(sys.argv[1]);"
        'line.sendall(b\'{"hello":{"protocol":1,"version":"1"}}\\n\'); line.settimeout(20);'
        "print(line.recv(100))"
    )
    ended = subprocess.run(
        ["/usr/bin/python3", "-c", script, place.path],
        preexec_fn=become_nobody,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stdout.strip() in ("", "b''") or "ConnectionReset" in ended.stderr, ended
    assert "b'{" not in ended.stdout
    deadline = time.monotonic() + 10
    while "it is of the user 65534" not in hub.said():
        assert time.monotonic() < deadline, hub.said()


def test_a_log_in_memory_begins_a_new_life_and_says_so(tmp_path, topic):
    place = Place(tmp_path, memory=True)
    hub = place.start()
    subscriber = Subscriber(hub.port, topic)
    hub.publish(topic, 1)
    subscriber.wait_for(1)
    later = place.start(port=hub.port)
    assert hub.wait() == 0
    later.publish(topic, 2)
    subscriber.wait_for(2)
    assert [data for _, data in subscriber.events] == ["1", "2"]
    assert subscriber.told.count("tidings.gap") == 1
    subscriber.stop()
    later.publish(topic, 3)
    subscriber.join(20)
    place.close()


def test_a_signal_ends_it_also_while_another_one_takes_over(place):
    hub = place.start()
    with socket.socket(socket.AF_UNIX) as line:
        line.settimeout(30)
        line.connect(str(place.path))
        line.sendall(json.dumps({"hello": {"protocol": 1, "version": "9.9"}}).encode() + b"\n")
        for file in socket.recv_fds(line, 4096, 8)[1]:
            os.close(file)
        line.sendall(b'{"take":{"waits":true}}\n')
        assert json.loads(line.recv(4096)) == {"released": {}}
        hub.signal(signal.SIGTERM)
        assert hub.wait() == 0


def test_the_line_it_prints_is_the_same(place):
    first = place.start()
    second = place.start(port=first.port)
    assert second.port == first.port
    assert re.search(r"taking over from the hub that runs", second.said())
