"""Every test starts what it needs: hubs from the built binary, and nginx before them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hub import BINARY, Hub
from nginx import Nginx
from tokens import SECRET

REPOSITORY = Path(__file__).parents[2]
OPENAPI = REPOSITORY / "crates/http/openapi.json"
FIGURES = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    assert BINARY.is_file(), f"{BINARY} is missing: build it, or set TIDINGS_BIN"
    config.stash[FIGURES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    figures = terminalreporter.config.stash[FIGURES]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Prints a measured figure below the results."""
    return request.config.stash[FIGURES].append


@pytest.fixture(scope="session")
def api() -> dict:
    """The OpenAPI document as it stands in the repository."""
    return json.loads(OPENAPI.read_text())


@pytest.fixture(scope="module")
def start_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Hub]]:
    """Starts hubs with options of their own, and ends them after the module."""
    hubs: list[Hub] = []

    def start(*options: str, **place: object) -> Hub:
        hubs.append(Hub(*options, log=tmp_path_factory.mktemp("hub") / "stderr", **place))
        return hubs[-1]

    yield start
    for hub in hubs:
        hub.close()


@pytest.fixture(scope="module")
def hub(start_hub: Callable[..., Hub]) -> Hub:
    """A hub with a short heartbeat, shared by a module's tests."""
    return start_hub("--heartbeat", "1s")


@pytest.fixture(scope="module")
def secret_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The secret that tokens are signed with, as a file."""
    path = tmp_path_factory.mktemp("secret") / "hub.key"
    path.write_text(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def topic(request: pytest.FixtureRequest) -> str:
    """A topic of the test's own."""
    return f"test/{request.node.name}"


@pytest.fixture(scope="module")
def start_nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Nginx]]:
    """Starts nginx before a hub, and ends it after the module."""
    proxies: list[Nginx] = []

    def start(hub: Hub, config: str) -> Nginx:
        proxies.append(Nginx(hub.port, tmp_path_factory.mktemp("nginx"), config))
        return proxies[-1]

    yield start
    for proxy in proxies:
        proxy.close()
