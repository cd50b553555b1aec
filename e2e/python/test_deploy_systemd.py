"""The units of `deploy/systemd`: systemd understands them, and the hub needs no more than they leave it.

No systemd runs here that could start them. Its own checks do, and the hub is watched for what the kernel is asked to do.
"""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from hub import BINARY
from proxies import DEPLOY
from stream import Stream

UNITS = DEPLOY / "systemd"
EXPOSURE_MAX = 1.5


def setting(unit: str, name: str) -> list[str]:
    """What a unit says, each time it does."""
    return re.findall(rf"^{name}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The units, with the binary of the tests in them."""
    for unit in ("tidings.service", "tidings.socket"):
        text = (UNITS / unit).read_text()
        (tmp_path / unit).write_text(text.replace("/usr/local/bin/tidings ", f"{BINARY} "))
    return tmp_path


def analyze(*arguments: object) -> tuple[int, str]:
    """The exit status of systemd's own checks, and what they say."""
    run = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60)
    return run.returncode, run.stderr + run.stdout


def test_systemd_has_nothing_to_say_against_the_units(installed):
    units = [installed / "tidings.service", installed / "tidings.socket"]
    assert analyze("verify", "--recursive-errors=no", *units) == (0, "")
    units[0].write_text(units[0].read_text().replace("Type=notify", "Type=notifying"))
    assert "notifying" in analyze("verify", "--recursive-errors=no", *units)[1]


def test_little_is_exposed(installed, figure):
    _, said = analyze("security", "--offline=true", installed / "tidings.service")
    level = float(re.search(r"Overall exposure level for tidings.service: ([\d.]+)", said)[1])
    figure(f"systemd-analyze security: exposure {level} of 10")
    assert level <= EXPOSURE_MAX


def allowed_calls() -> set[str]:
    """The system calls that the service may make."""

    def of(group: str) -> set[str]:
        lines = analyze("syscall-filter", group)[1].splitlines()[1:]
        names = {line.strip() for line in lines if line.strip() and not line.strip().startswith("#")}
        return set().union(*(of(name) if name.startswith("@") else {name} for name in names))

    allowed: set[str] = set()
    for line in setting("tidings.service", "SystemCallFilter"):
        for group in line.removeprefix("~").split():
            allowed = allowed - of(group) if line.startswith("~") else allowed | of(group)
    return allowed


def test_the_hub_asks_the_kernel_for_nothing_that_is_forbidden(start_hub, tmp_path, monkeypatch):
    """Watched from its start to its end, with a stream, a publish, metrics and a log on disk."""
    calls = tmp_path / "calls"
    watched = tmp_path / "watched"
    strace = shutil.which("strace")
    assert strace, "strace is not installed"
    watched.write_text(f'#!/bin/sh\nexec {strace} -D -f -qq -e signal=none -o {calls} {BINARY} "$@"\n')
    watched.chmod(0o755)
    monkeypatch.setattr("hub.BINARY", watched)
    hub = start_hub("--drain", "0s", data=tmp_path / "data")
    with Stream(hub.port, topic="a") as stream:
        published = hub.publish("a", "x")
        assert stream.event().id == published
        assert hub.metric("tidings_log_writable") == 1
    assert hub.close() == 0
    made = set(re.findall(r"^\d+ +(\w+)\(", calls.read_text(), re.MULTILINE))
    assert {"execve", "accept4", "fdatasync"} <= made, made
    assert made - allowed_calls() == set()


def test_the_service_waits_longer_than_the_hub_drains():
    (timeout,) = setting("tidings.service", "TimeoutStopSec")
    drain = re.search(r'^drain = "(\d+)s"$', (UNITS / "tidings.toml").read_text(), re.MULTILINE)
    assert int(timeout.removesuffix("s")) > int(drain[1]) + 5


def test_the_hub_takes_the_configuration(tmp_path, secret_file):
    command = [BINARY, "config", "check", "--config", UNITS / "tidings.toml"]
    run = subprocess.run([*command, "--key-file", secret_file], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    address = re.search(r'^listen = "(.*)"$', (UNITS / "tidings.toml").read_text(), re.MULTILINE)
    assert setting("tidings.socket", "ListenStream") == [address[1]]
