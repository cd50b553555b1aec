"""What a service manager passes to a hub and hears from it, without systemd: `sd_listen_fds(3)` and
`sd_notify(3)` are a few variables, files and datagrams."""

import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from activated import Manager, listening, start
from stream import Stream


class Unit:
    """A service with sockets, as systemd runs one; they outlive the process."""

    def __init__(self, folder: Path, *sockets: socket.socket):
        self.folder = folder
        self.log = folder / "stderr"
        self.sockets = list(sockets)
        self.port = sockets[0].getsockname()[1] if sockets else 0
        self.process: subprocess.Popen | None = None

    def start(self, *options: object, memory: bool = True, **told: object) -> str:
        """Starts the process, and returns the line it prints."""
        kept = ["--log", "memory"] if memory else ["--data", self.folder / "data"]
        self.process = start(self.sockets, self.log, *kept, *options, **told)
        return self.process.stdout.readline()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(timeout=30)

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdout.close()
        for it in self.sockets:
            it.close()


@pytest.fixture
def unit(tmp_path) -> Iterator[Unit]:
    unit = Unit(tmp_path, listening())
    yield unit
    unit.close()


@pytest.fixture
def manager(tmp_path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


def test_sockets_that_are_passed_are_used_whatever_their_names(tmp_path, topic):
    for names in [None, "http:internal", ":"]:
        unit = Unit(tmp_path, listening(), listening())
        told = unit.start(names=names)
        ports = [it.getsockname()[1] for it in unit.sockets]
        assert sorted(map(int, re.findall(r"127\.0\.0\.1:(\d+)", told))) == sorted(ports), told
        with Stream(ports[0], topic=topic) as stream:
            answer = httpx.post(f"http://127.0.0.1:{ports[1]}/events", json={"topic": topic})
            assert answer.status_code == 200
            assert stream.event().data == ""
        unit.close()


def test_another_address_in_the_configuration_is_said_and_not_used(unit):
    told = unit.start("--listen", "127.0.0.1:1")
    assert f"127.0.0.1:{unit.port}" in told
    assert f"listen is 127.0.0.1:1, and the sockets that were passed (LISTEN_FDS) are for 127.0.0.1:{unit.port}" in unit.log.read_text()  # fmt: skip


def test_a_socket_that_everybody_reaches_asks_for_a_key_as_any_address_does(tmp_path):
    unit = Unit(tmp_path, listening(), listening(address="0.0.0.0"))
    assert unit.start() == ""
    assert unit.process.wait(timeout=20) == 2
    said = unit.log.read_text()
    assert "LISTEN_FDS=0.0.0.0:" in said and "other machines can reach this address" in said, said
    unit.close()


def test_what_is_no_listening_tcp_socket_is_refused(tmp_path):
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    datagrams.bind(("127.0.0.1", 0))
    unit = Unit(tmp_path, datagrams)
    assert unit.start() == ""
    assert unit.process.wait(timeout=20) == 2
    assert "does not listen for TCP" in unit.log.read_text()
    unit.close()


def test_the_manager_hears_when_it_is_ready_reloads_and_stops(unit, manager, tmp_path):
    config = tmp_path / "tidings.toml"
    config.write_text("")
    unit.start("--config", config, "--drain", "500ms", "--drain-delay", "250ms", manager=manager)
    ready = manager.next()
    assert ready["READY"] == "1"
    assert ready["STATUS"] == f"listening on http://127.0.0.1:{unit.port}"

    for text in ["max_selectors = 7\n", "max_selectors = 0\n"]:
        config.write_text(text)
        before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        unit.process.send_signal(signal.SIGHUP)
        # In one datagram, as Type=notify-reload has it.
        reloading = manager.next()
        assert reloading["RELOADING"] == "1"
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        assert before <= int(reloading["MONOTONIC_USEC"]) <= now
        assert manager.next()["READY"] == "1", "it goes on, also if the file is refused"

    unit.process.send_signal(signal.SIGTERM)
    stopping = manager.next()
    assert stopping["STOPPING"] == "1" and stopping["STATUS"] == "draining"
    assert int(stopping["EXTEND_TIMEOUT_USEC"]) == 10_750_000
    assert unit.process.wait(timeout=20) == 0


def test_the_watchdog_is_fed_while_the_threads_answer_and_not_when_they_hang(unit, manager):
    unit.start(manager=manager, watchdog_s=1)
    begun = time.monotonic()
    for _ in range(5):
        manager.until("WATCHDOG", within=5)
    fed = [at for at, told in manager.heard if "WATCHDOG" in told]
    assert all(later - sooner < 0.95 for sooner, later in zip(fed, fed[1:])), fed
    assert fed[-1] - begun < 5
    unit.process.send_signal(signal.SIGSTOP)
    with pytest.raises(TimeoutError):
        while True:
            manager.next(within=1.5)
    unit.process.send_signal(signal.SIGCONT)
    manager.until("WATCHDOG", within=5)


def test_no_connection_is_refused_while_the_service_is_restarted(unit, topic, figure):
    unit.start("--drain", "200ms", memory=False)
    url = f"http://127.0.0.1:{unit.port}/events"
    ids, waits, faults, stop = [], [], [], threading.Event()

    def publish() -> None:
        number = 0
        while not stop.is_set():
            begun = time.monotonic()
            # A new connection each time: this is what would be refused.
            answer = httpx.post(url, json={"topic": topic, "data": number}, timeout=30)
            waits.append(time.monotonic() - begun)
            if answer.status_code == 200:
                ids.append(answer.json()["id"])
                number += 1
            elif answer.status_code != 503 or "retry-after" not in answer.headers:
                faults.append(answer.text)

    publisher = threading.Thread(target=publish)
    publisher.start()
    for _ in range(3):
        published = len(ids)
        while len(ids) < published + 20:
            assert publisher.is_alive()
            time.sleep(0.01)
        assert unit.stop() == 0
        unit.start("--drain", "200ms", memory=False)
    published = len(ids)
    while len(ids) < published + 20:
        assert publisher.is_alive()
        time.sleep(0.01)
    stop.set()
    publisher.join()
    assert not faults
    with Stream(unit.port, topic=topic, last="earliest") as stream:
        received = [stream.event() for _ in ids]
    assert [it.id for it in received] == ids
    assert [it.data for it in received] == [str(number) for number in range(len(ids))]
    figure(f"3 restarts with a passed socket: the longest publish took {max(waits) * 1000:.0f} ms")
