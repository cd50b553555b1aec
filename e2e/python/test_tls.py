"""The hub over TLS and HTTP/2, as curl and others meet it. Each hub has a certificate of its own."""

import os
import re
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from conftest import REPOSITORY
from curl import Curl
from hub import BINARY, Hub

DOCUMENTED = (REPOSITORY / "docs/operate/tls.md").read_text()

PROTOCOLS = {"HTTP/1.1": "--http1.1", "HTTP/2": "--http2"}
VERSIONS = {"TLS 1.2": "1.2", "TLS 1.3": "1.3"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A new certificate for this machine, and its key, made as the documents say."""
    folder = tmp_path_factory.mktemp("certificate")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = re.search(r"^openssl req .*?cert\.pem$", DOCUMENTED, re.DOTALL | re.MULTILINE)
    subprocess.run(["bash", "-c", command[0]], cwd=folder, check=True, capture_output=True)
    return cert, key


@pytest.fixture
def start_encrypted(start_hub, certificate) -> Callable[..., Hub]:
    """Starts a hub that encrypts."""
    cert, key = certificate

    def start(*options: str) -> Hub:
        return start_hub("--tls-cert", cert, "--tls-key", key, *options, trust=cert)

    return start


@pytest.fixture(params=["plain", "HTTP/2 in plain", *(f"{p} {v}" for p in PROTOCOLS for v in VERSIONS)])
def drained(request, start_hub, start_encrypted, certificate) -> Iterator[tuple[Hub, Curl]]:
    """A hub that will drain at once, and curl that reads a stream of it."""
    plain = {"plain": "--http1.1", "HTTP/2 in plain": "--http2-prior-knowledge"}
    if request.param in plain:
        hub, options = start_hub("--drain", "0s"), [plain[request.param]]
    else:
        hub = start_encrypted("--drain", "0s")
        protocol, version = request.param.split(" ", 1)
        version = VERSIONS[version]
        options = [PROTOCOLS[protocol], "--tlsv" + version, "--tls-max", version]
        options += ["--cacert", certificate[0]]
    with Curl(f"{hub.url}/events?topic=a", *options) as curl:
        yield hub, curl


def test_curl_reads_a_stream_to_its_end(drained):
    hub, curl = drained
    head = curl.until(":")
    assert head[0].split()[1] == "200"
    assert "content-type: text/event-stream" in head
    event_id = hub.publish("a", "x")
    assert curl.until("data: x")[0] == f"id: {event_id}"
    hub.begin_shutdown()
    status, rest = curl.end()
    assert status == 0
    assert "event: tidings.shutdown" in rest
    assert hub.close() == 0


def test_what_does_not_shake_hands_costs_nobody_anything(start_encrypted, certificate):
    hub = start_encrypted()
    silent = [socket.create_connection(("127.0.0.1", hub.port)) for _ in range(50)]
    for connection in silent[:25]:
        connection.sendall(b"\x16\x03\x01\x02\x00\x01")
    assert subprocess.run(["curl", "--silent", hub.url.replace("https", "http")]).returncode != 0
    with pytest.raises(ssl.SSLCertVerificationError):
        context = ssl.create_default_context()
        raw = socket.create_connection(("127.0.0.1", hub.port))
        context.wrap_socket(raw, server_hostname="localhost")
    with Curl(f"{hub.url}/events?topic=a", "--cacert", certificate[0]) as curl:
        curl.until(":")
        hub.publish("a", "y")
        curl.until("data: y")
    for connection in silent:
        connection.close()


def test_sessions_are_resumed(start_encrypted, certificate):
    hub = start_encrypted()
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.create_default_context(cafile=certificate[0])
        context.maximum_version = version
        session = None
        for is_resumed in (False, True, True):
            raw = socket.create_connection(("127.0.0.1", hub.port))
            with context.wrap_socket(raw, server_hostname="localhost", session=session) as wrapped:
                wrapped.sendall(b"GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n")
                assert wrapped.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
                assert wrapped.session_reused is is_resumed
                session = wrapped.session


def test_commands_speak_to_it(start_encrypted, certificate):
    hub = start_encrypted()
    variables = {**os.environ, "TIDINGS_URL": hub.url, "SSL_CERT_FILE": str(certificate[0])}
    with subprocess.Popen(
        [BINARY, "tail", "a", "--from", "earliest", "--count", "1"],
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
    ) as tail:
        subprocess.run([BINARY, "publish", "a", "by a command"], env=variables, check=True)
        assert "by a command" in tail.stdout.read()
    assert tail.returncode == 0


def fingerprint(pem: bytes) -> str:
    """As OpenSSL shows it."""
    command = ["openssl", "x509", "-noout", "-fingerprint", "-sha256"]
    shown = subprocess.run(command, input=pem, capture_output=True, check=True).stdout.decode()
    return shown.strip().partition("=")[2]


def shake_hands(hub: Hub, *options: str) -> str:
    """What OpenSSL has to say of a handshake."""
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{hub.port}", "-servername", "localhost"]
    done = subprocess.run([*command, *options], input=b"", capture_output=True, timeout=20)
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["-tls1_2"], ["Protocol  : TLSv1.2", "No ALPN negotiated"]),
        (["-tls1_3"], ["TLSv1.3", "No ALPN negotiated"]),
        (["-tls1_2", "-alpn", "h2,http/1.1"], ["Protocol  : TLSv1.2", "ALPN protocol: h2"]),
        (["-tls1_3", "-alpn", "http/1.1,h2"], ["TLSv1.3", "ALPN protocol: h2"]),
        (["-tls1_3", "-alpn", "http/1.1"], ["TLSv1.3", "ALPN protocol: http/1.1"]),
        (["-alpn", "spdy/3"], ["no application protocol"]),
        (["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"], ["alert handshake failure"]),
    ],
)
def test_openssl_agrees_on_version_and_protocol(start_encrypted, certificate, options, expected):
    said = shake_hands(start_encrypted(), *options, "-CAfile", str(certificate[0]))
    for part in expected:
        assert part in said
    if "alert" not in said:
        assert "Verify return code: 0 (ok)" in said


@pytest.mark.parametrize("encrypted", [True, False])
def test_h2load_disturbs_no_stream(start_hub, start_encrypted, certificate, encrypted, figure):
    hub = start_encrypted() if encrypted else start_hub()
    with Curl(f"{hub.url}/events?topic=a", "--cacert", certificate[0]) as curl:
        curl.until(":")
        load = ["h2load", "-n", "20000", "-c", "20", "-m", "50", f"{hub.url}/health/live"]
        said = subprocess.run(load, capture_output=True, text=True, check=True, timeout=120).stdout
        assert "20000 succeeded, 0 failed, 0 errored, 0 timeout" in said
        hub.publish("a", "still here")
        curl.until("data: still here")
    rate = re.search(r"finished in .*", said)[0]
    figure(f"h2load, {'TLS' if encrypted else 'plain'}: {rate}")


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it does not come"


def test_new_certificate_is_taken_up_under_streams(start_hub, tmp_path):
    def make(name: str) -> tuple[Path, Path]:
        cert, key = tmp_path / f"{name}.pem", tmp_path / f"{name}.key"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        subprocess.run(
            [*command.split(), "-subj", "/CN=localhost", "-keyout", key, "-out", cert],
            check=True,
            capture_output=True,
        )
        return cert, key

    (cert, key), (new_cert, new_key), (_, other_key) = make("used"), make("new"), make("other")
    hub = start_hub("--tls-cert", cert, "--tls-key", key, trust=cert)

    def shows(pem: Path) -> bool:
        return pem.read_text().strip() in shake_hands(hub)

    assert shows(cert)
    url = f"{hub.url}/events?topic=a"
    with Curl(url, "--insecure", "--http1.1") as one, Curl(url, "--insecure", "--http2") as two:
        for curl in one, two:
            curl.until(":")
        old = tmp_path / "old.pem"
        old.write_bytes(cert.read_bytes())
        # A key that does not fit, and the certificate is left: nothing changes but for a warning.
        os.replace(other_key, key)
        wait_for(lambda: "the old one stays" in hub.said())
        assert shows(old)
        os.replace(new_key, key)
        new = new_cert.read_bytes()
        os.replace(new_cert, cert)
        wait_for(lambda: shows(cert))
        assert hub.said().count("the old one stays") == 1
        assert cert.read_bytes() == new
        with Curl(url, "--cacert", cert, "--resolve", f"localhost:{hub.port}:127.0.0.1") as again:
            assert again.end()[0] != 0, "it is not for 127.0.0.1"
        subprocess.run(
            ["curl", "--silent", "--show-error", "--cacert", cert, "--data", "topic=a&data=x"]
            + [f"https://localhost:{hub.port}/events"],
            check=True,
            capture_output=True,
        )
        for curl in one, two:
            curl.until("data: x")


def test_self_signed_certificate_lasts(start_hub, tmp_path):
    shown = set()
    for _ in range(2):
        hub = start_hub("--tls-self-signed", data=tmp_path, trust=ssl.get_default_verify_paths().cafile)
        said = shake_hands(hub)
        pem = said[said.index("-----BEGIN") : said.index("-----END")] + "-----END CERTIFICATE-----\n"
        shown.add(fingerprint(pem.encode()))
        assert fingerprint(pem.encode()) in hub.said()
        kept = next(tmp_path.rglob("self-signed.pem"))
        assert kept.stat().st_mode & 0o777 == 0o600
        with Curl(f"{hub.url}/health/live", "--cacert", kept) as curl:
            assert curl.end()[0] == 0
        assert hub.close() == 0
    assert len(shown) == 1


def test_key_of_another_certificate_is_refused(certificate, tmp_path):
    key = tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True
    )
    refused = subprocess.run(
        [BINARY, "serve", "--log", "memory", "--tls-cert", certificate[0], "--tls-key", key],
        capture_output=True,
        text=True,
    )
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "does not belong to the certificate" in refused.stderr
