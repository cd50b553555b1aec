"""The image of `deploy/container` runs as nobody with nothing around it, and Compose is told what it understands."""

import json
import os
import platform
import re
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml

from cluster.waiting import free_port, wait_for
from conftest import REPOSITORY
from hub import BINARY
from proxies import DEPLOY

DOCKERFILE = DEPLOY / "container/Dockerfile"
COMPOSE = DEPLOY / "compose/compose.yaml"
OPTIONS = (REPOSITORY / "docs/reference/options.md").read_text()
TARGET = f"{platform.machine()}-unknown-linux-musl"
NOBODY = 65532

# The binary has to be built once.
pytestmark = pytest.mark.timeout(1800)


def run(*command: object, **options: object) -> str:
    """What a command prints. It has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=1700, **options)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def with_python_programs() -> dict[str, str]:
    """The environment with what is installed beside the Python of the tests."""
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def test_the_linter_has_nothing_to_say_against_the_dockerfile():
    run("hadolint", "--ignore", "DL3008", DOCKERFILE, env=with_python_programs())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the first stage makes, by the command that stands there, without optimisation.

    That stage itself begins with an image from a registry, which is not asked.
    """
    libraries = run("rustc", "--print", "target-libdir", "--target", TARGET).strip()
    if not Path(libraries).is_dir():
        pytest.skip(f"no static binary can be made: `rustup target add {TARGET}` did not work")
    (command,) = re.findall(r"&& (cargo build .*?) \\", DOCKERFILE.read_text())
    command = command.replace(" --release", "").replace('"$target"', TARGET)
    run(*command.split(), cwd=REPOSITORY)
    folder = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    context = tmp_path_factory.mktemp("first-stage")
    made = context / "made"
    (made / "data").mkdir(parents=True)
    shutil.copy("/etc/ssl/certs/ca-certificates.crt", made)
    run("strip", "-o", made / "tidings", folder / TARGET / "debug/tidings")
    return context


class Images:
    """buildah, with a store of its own."""

    def __init__(self, folder: Path):
        self._command = ["buildah", "--storage-driver", "vfs"]
        self._command += ["--root", folder / "root", "--runroot", folder / "run"]

    def __call__(self, *arguments: object) -> str:
        return run(*self._command, *arguments, cwd=REPOSITORY).strip()

    def start(self, *arguments: object, said: Path) -> subprocess.Popen:
        return subprocess.Popen(
            [*self._command, *arguments], stdout=said.open("wb"), stderr=subprocess.STDOUT
        )


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory, made: Path) -> Iterator[Images]:
    """A store with the image in it."""
    images = Images(tmp_path_factory.mktemp("images"))
    options = ["--isolation", "chroot", "--format", "docker", "--build-context", f"build={made}"]
    images("build", *options, "--file", DOCKERFILE, "--tag", "tidings", ".")
    yield images
    images("rm", "--all")
    images("rmi", "--all", "--force")


def test_the_binary_needs_nothing_around_it(made):
    assert "INTERP" not in run("readelf", "--program-headers", made / "made/tidings")
    assert "NEEDED" not in run("readelf", "--dynamic", made / "made/tidings")


def test_the_image_says_how_it_is_run(images):
    config = json.loads(images("inspect", "--type", "image", "tidings"))["Docker"]["config"]
    assert config["User"] == f"{NOBODY}:{NOBODY}"
    assert (config["Entrypoint"], config["Cmd"]) == (["/tidings"], ["serve"])
    assert config["StopSignal"] == "SIGTERM"
    assert config["Volumes"] == {"/data": {}}
    assert config["Healthcheck"]["Test"] == ["CMD", "/tidings", "health"]
    for variable in config["Env"]:
        name, _, _ = variable.partition("=")
        assert name == "PATH" or f"`{name}`" in OPTIONS, f"{name} is no option"


def test_a_container_serves_and_keeps_events(images, tmp_path):
    container = images("from", "--isolation", "chroot", "localhost/tidings")
    port = free_port()
    said = tmp_path / "said"
    environment = [f"TIDINGS_LISTEN=127.0.0.1:{port}", f"TIDINGS_URL=http://127.0.0.1:{port}"]
    for variable in environment:
        images("config", "--env", variable, container)
    command = ["run", "--isolation", "chroot", container, "--", "/tidings"]
    process = images.start(*command, "serve", said=said)
    try:
        wait_for(lambda: "listening on" in said.read_text(), said.read_text)
        event = {"topic": "a", "data": "x"}
        assert httpx.post(f"http://127.0.0.1:{port}/events", json=event).status_code == 200
        images(*command, "health")
        (pid,) = hub_processes(port)
        assert f"Uid:\t{NOBODY}\t{NOBODY}" in (Path("/proc") / pid / "status").read_text()
        root = Path(images("mount", container))
        assert sorted(path.name for path in root.iterdir() if path.is_file()) == ["tidings"]
        os.kill(int(pid), signal.SIGTERM)
        process.wait(timeout=60)
        assert "keeping events in /data/log" in said.read_text()
    finally:
        process.kill()
        process.wait()


def hub_processes(port: int) -> list[str]:
    """The hubs that were told to listen there."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_it = f"TIDINGS_LISTEN=127.0.0.1:{port}\0" in (folder / "environ").read_text()
            if is_it and (folder / "cmdline").read_text() == "/tidings\0serve\0":
                found.append(folder.name)
        except (OSError, UnicodeDecodeError):
            continue
    return found


def test_compose_understands_the_file():
    validate = ["check-jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run(*validate, COMPOSE, env=with_python_programs())


def test_what_compose_puts_together_fits():
    services = yaml.safe_load(COMPOSE.read_text())["services"]
    addresses = {name: it["networks"]["hubs"]["ipv4_address"] for name, it in services.items()}
    proxy = (DEPLOY / "haproxy/haproxy.cfg").read_text()
    hubs = sorted(set(re.findall(r"server \S+ ([\d.]+):8080", proxy)))
    assert [addresses[name] for name in ("hub-1", "hub-2", "hub-3")] == hubs
    assert f"bind {addresses['haproxy']}:8000" in proxy
    assert len(set(addresses.values())) == len(addresses)
    for name in ("hub-1", "hub-2", "hub-3"):
        options = services[name]["environment"]
        assert all(f"`{variable}`" in OPTIONS for variable in options)
        assert options["TIDINGS_TRUSTED_PROXIES"] == addresses["haproxy"]
        assert f"//{addresses['redis']}:" in options["TIDINGS_LOG"]
        # As the image and the file `.env` have it.
        environment = options | {"TIDINGS_KEY": secrets.token_hex(32), "TIDINGS_LISTEN": "0.0.0.0:8080"}
        run(BINARY, "config", "check", env=environment)
        times = (options["TIDINGS_DRAIN_DELAY"], options["TIDINGS_DRAIN"])
        needed = sum(int(time.removesuffix("s")) for time in times)
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > needed + 10
    mounts = [volume.split(":")[0] for volume in services["haproxy"]["volumes"]]
    assert (COMPOSE.parent / mounts[0]).resolve() == DEPLOY / "haproxy/haproxy.cfg"
