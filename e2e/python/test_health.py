"""`tidings health`, for those who watch over a hub without another tool at hand."""

import http.server
import json
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from hub import BINARY, Hub


def health(url: str, *options: str) -> subprocess.CompletedProcess:
    command = [BINARY, "health", "--url", url, *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


@pytest.fixture
def answering() -> Iterator[Callable[[int, dict], str]]:
    """Starts a server with one answer to everything, and says where it is."""
    servers = []

    def start(status: int, answer: dict) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        servers.append(http.server.HTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("options, said", [([], "ready\n"), (["--live"], "live\n")])
def test_hub_that_serves_is_well(hub: Hub, options, said):
    done = health(hub.url, *options)
    assert (done.returncode, done.stdout, done.stderr) == (0, said, "")


def test_hub_that_is_not_ready_says_why(answering):
    reason = {"status": "unavailable", "reason": "log-unavailable", "detail": "the disk is full"}
    done = health(answering(503, reason))
    assert (done.returncode, done.stdout) == (1, "")
    assert "not ready: log-unavailable: the disk is full" in done.stderr


def test_hub_that_does_not_answer_is_not_waited_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        done = health(f"http://127.0.0.1:{silent.getsockname()[1]}", "--timeout", "200ms")
    assert done.returncode == 1
    assert "no answer in time within 200ms" in done.stderr


def test_nobody_there_is_told():
    done = health("http://127.0.0.1:1")
    assert done.returncode == 1
    assert "nothing listens there" in done.stderr


def test_other_servers_are_not_mistaken_for_a_hub(hub: Hub):
    done = health(f"{hub.url}/elsewhere")
    assert done.returncode == 1
    assert "not from a tidings hub" in done.stderr
