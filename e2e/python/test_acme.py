"""Certificates from an authority by ACME: Pebble, which is made for trying that out."""

import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from conftest import REPOSITORY

PEBBLE = REPOSITORY / ".test-env/bin/pebble"
# Short enough for a test to see several certificates.
VALIDITY_S = 15


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def wait_for(what: Callable[[], object], why: Callable[[], str]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, why()


class Pebble:
    """An authority that proves names at one port and refuses good requests now and then."""

    def __init__(self, folder: Path, proof_port: int):
        self.cert, key = folder / "pebble.pem", folder / "pebble.key"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
        command += f" -subj /CN=localhost -addext {names} -addext basicConstraints=critical,CA:FALSE"
        subprocess.run(
            [*command.split(), "-keyout", key, "-out", self.cert], check=True, capture_output=True
        )
        port, management_port = free_port(), free_port()
        config = {
            "listenAddress": f"127.0.0.1:{port}",
            "managementListenAddress": f"127.0.0.1:{management_port}",
            "certificate": str(self.cert),
            "privateKey": str(key),
            "httpPort": free_port(),
            "tlsPort": proof_port,
            "certificateValidityPeriod": VALIDITY_S,
        }
        (folder / "config.json").write_text(json.dumps({"pebble": config}))
        self._log = folder / "pebble.log"
        self._process = subprocess.Popen(
            [PEBBLE, "-config", folder / "config.json"],
            stdout=self._log.open("wb"),
            stderr=subprocess.STDOUT,
            env={"PEBBLE_VA_NOSLEEP": "1", "PEBBLE_WFE_NONCEREJECT": "20"},
        )
        self.directory = f"https://localhost:{port}/dir"
        wait_for(lambda: "ACME directory available" in self.said(), self.said)
        roots = f"https://localhost:{management_port}/roots/0"
        context = ssl.create_default_context(cafile=self.cert)
        self.root = folder / "root.pem"
        self.root.write_text(httpx.get(roots, verify=context).raise_for_status().text)

    def said(self) -> str:
        return self._log.read_text()

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(timeout=20)


@pytest.fixture
def port() -> int:
    """Where the hub will be, and is looked for."""
    return free_port()


@pytest.fixture
def pebble(tmp_path: Path, port: int) -> Iterator[Pebble]:
    pebble = Pebble(tmp_path, port)
    yield pebble
    pebble.close()


def test_certificates_are_got_and_renewed_under_a_stream(start_hub, tmp_path, pebble, port, figure):
    options = ["--acme-domain", "localhost", "--acme-email", "operator@example.org"]
    options += ["--acme-directory", pebble.directory, "--acme-ca", pebble.cert]

    def start():
        return start_hub(*options, port=port, data=tmp_path / "data", trust=pebble.root)

    hub = start()
    context = ssl.create_default_context(cafile=pebble.root)

    def serial() -> str | None:
        """That of the certificate that is shown and trusted."""
        raw = socket.create_connection(("127.0.0.1", port))
        try:
            with context.wrap_socket(raw, server_hostname="localhost") as wrapped:
                return wrapped.getpeercert()["serialNumber"]
        except ssl.SSLCertVerificationError:
            raise
        except (ssl.SSLError, ConnectionError):
            return None

    wait_for(serial, hub.said)
    seen = [serial()]
    url = f"https://localhost:{port}/events?topic=a"
    with httpx.Client(verify=context, timeout=60) as client, client.stream("GET", url) as stream:
        lines = stream.iter_lines()
        while len(seen) < 3:
            wait_for(lambda: serial() != seen[-1], hub.said)
            seen.append(serial())
        body = {"topic": "a", "data": "still here"}
        assert httpx.post(f"https://localhost:{port}/events", json=body, verify=context).is_success
        assert next(line for line in lines if line.startswith("data:")) == "data: still here"
    assert len(set(seen)) == 3
    assert hub.close() == 0

    hub = start()
    assert serial() is not None, "what was issued is used at once"
    assert "There are now 1 accounts" in pebble.said()
    assert "There are now 2 accounts" not in pebble.said()
    kept = [path for path in (tmp_path / "data").rglob("*") if path.parent.parent.name == "acme"]
    assert {path.name for path in kept} == {"account.json", "certificate.pem"}
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in kept)
    assert "there is no new certificate" not in hub.said()


def test_what_an_authority_refuses_is_told(start_hub, tmp_path, pebble, port):
    # Nobody is where the authority looks.
    hub = start_hub(
        *("--acme-domain", "localhost", "--acme-directory", pebble.directory),
        *("--acme-ca", pebble.cert),
        data=tmp_path / "data",
        trust=pebble.root,
    )
    wait_for(lambda: "there is no new certificate" in hub.said(), hub.said)
    assert "the authority did not find localhost to be here" in hub.said()
