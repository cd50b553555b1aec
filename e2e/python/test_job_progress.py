"""The example `examples/job-progress`: its worker and its hub may die at any time."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import REPOSITORY
from stream import Event, Stream

WORKER = REPOSITORY / "examples/job-progress/worker.py"
TOPIC = "jobs/7"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """4 MiB in files of different sizes."""
    folder = tmp_path / "folder"
    for number in range(32):
        file = folder / f"{number % 4}" / f"{number}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom((number + 1) * 8 << 10))
    return folder


@pytest.fixture
def start_worker():
    """Starts workers, and ends them after the test."""
    workers: list[subprocess.Popen] = []

    def start(hub, folder: Path, *options: str) -> subprocess.Popen:
        command = [sys.executable, WORKER, TOPIC, folder, *options]
        env = os.environ | {"TIDINGS_URL": hub.url}
        pipe = subprocess.PIPE
        workers.append(subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True))
        return workers[-1]

    yield start
    for worker in workers:
        worker.kill()
        worker.communicate()


def read_until(stream: Stream, percent: int) -> list[Event]:
    """The events up to one that tells at least so many percent."""
    events = [stream.event()]
    while json.loads(events[-1].data)["percent"] < percent:
        events.append(stream.event())
    return events


def test_each_percent_is_told_once_though_worker_and_hub_are_killed(
    start_hub, start_worker, folder, tmp_path
):
    data = tmp_path / "data"
    hub = start_hub(data=data)
    worker = start_worker(hub, folder, "--rate", "1")
    with Stream(hub.port, topic=TOPIC, last="earliest") as stream:
        seen = read_until(stream, 20)
        worker.kill()
    worker = start_worker(hub, folder, "--rate", "2")
    with Stream(hub.port, topic=TOPIC, lastEventId=seen[-1].id) as stream:
        seen += read_until(stream, 50)
        hub.kill()
    hub = start_hub(data=data, port=hub.port)
    with Stream(hub.port, topic=TOPIC, lastEventId=seen[-1].id) as stream:
        seen += read_until(stream, 100)
        seen += [stream.event(), stream.event()]
        with pytest.raises(EOFError):
            stream.event()
    printed, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    expected = subprocess.run(
        "find * -type f | LC_ALL=C sort | xargs sha256sum",
        shell=True,
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert sorted(printed.splitlines()) == sorted(expected.stdout.splitlines())

    *percents, end, finished = seen
    assert [json.loads(event.data)["percent"] for event in percents] == list(range(101))
    assert {event.event for event in percents} == {"progress"}
    total = sum(file.stat().st_size for file in folder.rglob("*.bin"))
    assert (end.event, json.loads(end.data)) == ("complete", {"files": 32, "bytes": total})
    assert finished.event == "tidings.finished"

    # Whoever comes back has nothing to wait for, and a worker that is started once more tells nothing.
    query = {"topic": TOPIC, "lastEventId": end.id}
    assert hub.client.get("/events", params=query).status_code == 204
    worker = start_worker(hub, folder)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 0, said
    query = {"topic": "*", "last": 1, "mode": "poll"}
    batch = hub.client.get("/events", params=query, headers={"accept": "application/json"}).json()
    assert batch["lastEventId"] == end.id


def test_failure_is_told_as_the_last_event(start_hub, start_worker, folder):
    # It is there, and nobody can read it from its start.
    (folder / "9.bin").symlink_to("/proc/self/mem")
    hub = start_hub()
    worker = start_worker(hub, folder)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 1
    with Stream(hub.port, topic=TOPIC, last="1") as stream:
        event = stream.event()
        assert event.event == "failed"
        assert json.loads(event.data)["reason"] in said
        assert stream.event().event == "tidings.finished"


def test_job_is_not_begun_without_a_folder(start_hub, start_worker, folder):
    hub = start_hub()
    worker = start_worker(hub, folder / "none")
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == 2
    assert "none is no folder" in said
    assert hub.metric("tidings_events_published_total") == 0
