"""SIGHUP: what changes without a connection being dropped, what does not, and what is refused."""

import json
import signal
import ssl
import socket
import subprocess
import time
from pathlib import Path

import pytest

from hub import Hub
from stream import Stream
from tokens import bearer, sign

OTHER_SECRET = "another secret of these tests, also long enough to be one"
EVERYTHING = {"sub": "ada", "tidings": {"publish": ["*"], "subscribe": ["*"], "operate": True}}


def reload(hub: Hub, outcome: str) -> str:
    """Has the hub read its configuration again, and returns what it said about it."""
    before, said = reloads(hub, outcome), len(hub.said())
    hub.signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while reloads(hub, outcome) == before:
        assert time.monotonic() < deadline, hub.said()
    while "configuration was read again" not in hub.said()[said:]:
        assert time.monotonic() < deadline, hub.said()
    return hub.said()[said:]


def reloads(hub: Hub, outcome: str) -> int:
    text = hub.client.get("/metrics").text
    name = f'tidings_config_reloads_total{{outcome="{outcome}"}} '
    return int(next(it for it in text.splitlines() if it.startswith(name)).removeprefix(name))


@pytest.fixture
def config(tmp_path) -> Path:
    return tmp_path / "tidings.toml"


def test_limits_change_and_streams_stay(start_hub, config, topic):
    config.write_text('max_selectors = 2\nmax_event_bytes = "1KiB"\nmax_connections = 1\n')
    hub = start_hub("--config", config)
    with Stream(hub.port, topic=topic) as stream:
        params = {"topic": ["a", "b", "c"]}
        assert hub.client.get("/events", params=params).status_code == 400
        large = {"topic": topic, "data": "x" * 2_000}
        assert hub.client.post("/events", json=large).status_code == 413
        turned_away = hub.client.get("/events", params={"topic": topic}).text
        assert turned_away.startswith("retry: ") and ":\n" not in turned_away[6:]

        config.write_text('max_selectors = 3\nmax_event_bytes = "4KiB"\nmax_connections = 2\n')
        reload(hub, "applied")
        with Stream(hub.port, topic=["a", "b", "c"]):
            hub.publish(topic, "x" * 2_000)
            assert stream.event().data == "x" * 2_000
        config.write_text("publish_rate = 1\npublish_burst = 1\n")
        reload(hub, "applied")
        answers = [hub.client.post("/events", json={"topic": "b"}).status_code for _ in range(3)]
        assert answers.count(429) >= 1, answers
        config.write_text("")
        reload(hub, "applied")
        hub.publish(topic, "all the while")
        assert stream.event().data == "all the while"


def test_a_file_with_an_error_changes_nothing(start_hub, config, topic):
    config.write_text("max_selectors = 2\n")
    hub = start_hub("--config", config)
    for text, told in [
        ("max_selectors = 1\nmax_selektors = 3\n", "there is no option `max_selektors`"),
        ("max_selectors = 0\n", "max_selectors"),
        ('max_selectors = 1\nshards = "many"\n', "shards"),
        ('max_selectors = 1\nmax_event_bytes = "32MiB"\n', "tail-bytes-max"),
        ("max_selectors = [", "tidings.toml:1"),
    ]:
        config.write_text(text)
        said = reload(hub, "refused")
        assert "everything stays as it was" in said and told in said, said
        assert hub.metric("tidings_config_current") == 0
        with Stream(hub.port, topic=["a", "b"]):
            pass
    config.unlink()
    assert "cannot read" in reload(hub, "refused")
    config.write_text("max_selectors = 3\n")
    reload(hub, "applied")
    assert hub.metric("tidings_config_current") == 1


def test_what_needs_a_restart_is_named_and_the_rest_is_in_effect(start_hub, config):
    config.write_text("")
    hub = start_hub("--config", config)
    config.write_text('shards = 3\nheartbeat = "1s"\nmax_selectors = 1\nlog_level = "debug"\n')
    said = reload(hub, "applied")
    assert "in effect only after a restart: heartbeat, shards" in said, said
    assert hub.client.get("/events", params={"topic": ["a", "b"]}).status_code == 400
    hub.client.get("/nowhere")
    deadline = time.monotonic() + 10
    while "DEBUG" not in hub.said():
        assert time.monotonic() < deadline, hub.said()
    # Whether anybody is asked for a token at all needs a restart.
    config.write_text(f'key = "{OTHER_SECRET}"\n')
    assert "after a restart: key" in reload(hub, "applied")
    hub.publish("a", "anybody may")


def test_keys_are_added_and_taken_back(start_hub, tmp_path, topic):
    secret = "a secret of these tests, long enough to be one for sure"
    key_file = tmp_path / "hub.key"
    key_file.write_text(secret)
    key_file.chmod(0o600)
    hub = start_hub("--key-file", key_file, "--public-figures=true")
    old, new = (bearer(sign(EVERYTHING, it)) for it in (secret, OTHER_SECRET))

    def publish(headers: dict) -> int:
        return hub.client.post("/events", json={"topic": topic}, headers=headers).status_code

    assert (publish(old), publish(new)) == (200, 401)
    with Stream(hub.port, headers=old, topic=topic) as stream:
        answer = hub.client.post("/tickets", json={"topics": [topic]}, headers=old)
        ticket = answer.json()["url"]
        key_file.write_text(OTHER_SECRET)
        assert (publish(old), publish(new)) == (200, 401), "nothing is read before it is told to"
        reload(hub, "applied")
        assert (publish(old), publish(new)) == (401, 200)
        expired = stream.event()
        while expired.id is not None:
            expired = stream.event()
        assert (expired.event, json.loads(expired.data)) == ("tidings.expired", {"reason": "revoked"})
        with pytest.raises(EOFError):
            stream.event()
        assert hub.client.get(ticket).status_code == 401
    with Stream(hub.port, headers=new, topic=topic) as stream:
        key_file.write_text("short")
        assert "hub.key" in reload(hub, "refused")
        assert (publish(old), publish(new)) == (401, 200)
        assert stream.event().event is None, "what the other key opened goes on"
    # Taken for a mistake, and put back at once.
    key_file.write_text(secret)
    reload(hub, "applied")
    with Stream(hub.port, headers=old, topic=topic) as stream:
        assert publish(old) == 200
        assert stream.event().event is None


def certificate(folder: Path, name: str) -> None:
    """Writes a new certificate and its key where the hub reads them."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
        + ["-nodes", "-days", "30", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"]
        + ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")],
        check=True,
        capture_output=True,
    )


def shown_certificate(port: int) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        with context.wrap_socket(plain) as encrypted:
            return encrypted.getpeercert(binary_form=True)


def test_a_certificate_that_does_not_fit_is_refused_with_everything_else(
    start_hub, tmp_path, config
):
    certificate(tmp_path, "first")
    config.write_text("max_selectors = 2\n")
    options = ["--tls-cert", tmp_path / "cert.pem", "--tls-key", tmp_path / "key.pem"]
    hub = start_hub(*options, "--config", config, trust=tmp_path / "cert.pem")
    first = shown_certificate(hub.port)
    key = (tmp_path / "key.pem").read_text()
    certificate(tmp_path, "second")
    second_key = (tmp_path / "key.pem").read_text()
    (tmp_path / "key.pem").write_text(key)
    config.write_text("max_selectors = 1\n")
    assert "does not belong" in reload(hub, "refused")
    assert shown_certificate(hub.port) == first
    assert hub.client.get("/events", params={"topic": ["a", "b"], "mode": "poll", "wait": 0}).status_code == 200
    (tmp_path / "key.pem").write_text(second_key)
    reload(hub, "applied")
    assert shown_certificate(hub.port) != first
    assert hub.client.get("/events", params={"topic": ["a", "b"], "mode": "poll", "wait": 0}).status_code == 400
