"""What `docs/operate/keeping-events.md` says of copies of a log."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import REPOSITORY
from hub import BINARY
from stream import Stream

PAGE = REPOSITORY / "docs/operate/keeping-events.md"


@pytest.fixture
def data(start_hub, tmp_path) -> tuple[Path, list[str]]:
    """The folder of a hub that was stopped, and the ids of its events."""
    data = tmp_path / "data"
    hub = start_hub(data=data)
    ids = [hub.publish("a", number, key=f"k:{number}") for number in range(5)]
    assert hub.close() == 0
    return data, ids


def kept(hub) -> list[str]:
    """The ids of all events of the hub, which are few."""
    query = {"topic": "*", "last": "earliest", "mode": "poll"}
    answer = hub.client.get("/events", params=query, headers={"accept": "application/json"})
    return [event["id"] for event in answer.json()["events"]]


def test_copy_goes_on_where_the_hub_was_stopped(start_hub, data, tmp_path):
    data, ids = data
    copy = shutil.copytree(data, tmp_path / "copy")
    hub = start_hub(data=copy)
    assert hub.publish("a", "again", key="k:3") == ids[3]
    new = hub.publish("a", "new")
    with Stream(hub.port, topic="a", lastEventId=ids[3]) as stream:
        assert [stream.event().id, stream.event().id] == [ids[4], new]


def test_ids_of_a_restored_copy_begin_anew(start_hub, data, tmp_path):
    data, ids = data
    copy = shutil.copytree(data, tmp_path / "copy")
    hub = start_hub(data=data)
    unknown = hub.publish("a", "after the copy was made")
    hub.close()

    (block,) = [
        block for block in re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
        if "$ rm " in block
    ]
    block = block.replace("/var/lib/tidings", str(copy)).replace("$ tidings", f"$ {BINARY}")
    for command in re.findall(r"^\$ (.*)$", block, re.MULTILINE):
        subprocess.run(["bash", "-c", command], check=True, capture_output=True)

    hub = start_hub(data=copy)
    offsets = [id.split("-")[1] for id in kept(hub)]
    assert offsets == [id.split("-")[1] for id in ids]
    assert kept(hub)[0] != ids[0]
    # The next event has the offset of the one that was lost, and is not mistaken for it.
    new = hub.publish("a", "new")
    assert new.split("-")[1] == unknown.split("-")[1] and new != unknown
    with Stream(hub.port, topic="a", lastEventId=unknown) as stream:
        gap = stream.event()
        assert (gap.event, json.loads(gap.data)["reason"]) == ("tidings.gap", "unknown-epoch")
