"""What the hub asks other servers: for keys, for what a subscriber may do, and that they hear of users."""

import base64
import hashlib
import hmac
import json
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from stream import Stream
from tokens import EcKey, bearer, claims

SECRET = "what-only-the-hub-and-the-application-know"
SOON_S = 20  # far more than anything here takes


class Server:
    """An application's server, whose answers a test decides."""

    def __init__(self, port: int = 0):
        self.asked: queue.Queue[tuple[str, dict, bytes]] = queue.Queue()
        self.answer: Callable[[str, bytes], tuple[int, bytes]] = lambda path, body: (404, b"")
        self._known: set[str] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, answer = server.answer(self.path, body)
                server.asked.put((self.path, dict(self.headers.items()), body))
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        self.port = self._http.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def next(self) -> tuple[str, dict, bytes]:
        """The next request: path, headers, body."""
        return self.asked.get(timeout=SOON_S)

    def news(self) -> tuple[str, str]:
        """The next news of a user that has not been told before."""
        while True:
            _, headers, body = self.next()
            if headers["webhook-id"] not in self._known:
                self._known.add(headers["webhook-id"])
                return said(body)

    def stop(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()


def key_set(*keys: dict) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


def named(folder: Path, name: str) -> tuple[EcKey, dict]:
    (folder / name).mkdir()
    key = EcKey(folder / name)
    return key, key.jwk() | {"kid": name, "alg": "ES256", "use": "sig"}


def status_of(client: httpx.Client, token: str) -> int:
    return client.post("/events", json={"topic": "a"}, headers=bearer(token)).status_code


def test_keys_follow_the_key_server_and_outlive_it(start_hub, server, tmp_path):
    (old, old_jwk), (new, new_jwk) = named(tmp_path, "old"), named(tmp_path, "new")
    said = claims("backend", publish=["*"])
    served = key_set(old_jwk)
    server.answer = lambda path, body: (200, served)
    hub = start_hub("--jwks-url", f"{server.url}/keys", "--anonymous=true")
    assert server.next()[0] == "/keys"
    of_old, of_new = old.sign(said, kid="old"), new.sign(said, kid="new")
    assert status_of(hub.client, of_old) == 200
    # A key that is not there yet: the set is asked for again, once.
    assert status_of(hub.client, new.sign(said, kid="unheard-of")) == 401
    # What is no key set changes nothing, whatever it is.
    for status, garbage in [(500, b""), (200, b"<html>"), (200, key_set()), (200, b"{}")]:
        served = garbage
        server.answer = lambda path, body, status=status: (status, served)
        assert status_of(hub.client, of_old) == 200
        assert status_of(hub.client, of_new) == 401
    server.stop()
    assert status_of(hub.client, of_old) == 200
    assert status_of(hub.client, new.sign(said, kid="old")) == 401, "another key under a known name"


def test_a_new_key_is_taken_up_with_its_first_token(start_hub, server, tmp_path):
    (old, old_jwk), (new, new_jwk) = named(tmp_path, "old"), named(tmp_path, "new")
    said = claims("backend", publish=["*"])
    served = [key_set(old_jwk), key_set(old_jwk, new_jwk), key_set(new_jwk)]
    server.answer = lambda path, body: (200, served[0])
    hub = start_hub("--jwks-url", f"{server.url}/keys")
    assert status_of(hub.client, old.sign(said, kid="old")) == 200
    served.pop(0)
    assert status_of(hub.client, new.sign(said, kid="new")) == 200
    assert status_of(hub.client, old.sign(said, kid="old")) == 200
    assert server.asked.qsize() == 2, "at the start, and for the new key"


def test_a_hub_does_not_start_without_any_key(start_hub, server):
    server.answer = lambda path, body: (200, key_set())
    with pytest.raises(AssertionError, match="no usable key"):
        start_hub("--jwks-url", f"{server.url}/keys")


def test_the_application_says_who_may_subscribe(start_hub, server, topic, tmp_path):
    may = {"session=ann": {"user": "ann", "subscribe": [f"{topic}/ann"]}}

    def answer(path: str, body: bytes) -> tuple[int, bytes]:
        asked = json.loads(body)
        rights = may.get(asked["headers"].get("cookie"))
        return (403, b"") if rights is None else (200, json.dumps(rights).encode())

    server.answer = answer
    options = ["--authorization-webhook", f"{server.url}/may", "--webhook-secret", SECRET]
    key = EcKey(tmp_path)
    options += ["--authorization-webhook-cache", "1m", "--key-file", str(key.public)]
    hub = start_hub(*options)
    backend = bearer(key.sign(claims("backend", publish=["*"])))
    with Stream(hub.port, headers={"cookie": "session=ann"}, topic=f"{topic}/{{name}}") as ann:
        for user in ("bob", "ann"):
            event = {"topic": f"{topic}/{user}", "data": f"for {user}", "private": True}
            assert hub.client.post("/events", json=event, headers=backend).status_code == 200
        assert ann.event().data == "for ann"
        path, headers, body = server.next()
        asked = json.loads(body)
        assert (path, asked["topics"], asked["ip"]) == ("/may", [f"{topic}/{{name}}"], "127.0.0.1")
        check_signed(headers, body)
    query = {"topic": topic, "mode": "poll", "wait": 0}
    refused = hub.client.get("/events", params=query, headers={"cookie": "session=eve"})
    assert (refused.status_code, refused.json()["type"]) == (403, "urn:tidings:problem:denied")
    server.next()
    # The same question is not asked again; a server that fails lets nobody else in.
    server.answer = lambda path, body: (500, b"")
    with Stream(hub.port, headers={"cookie": "session=ann"}, topic=f"{topic}/{{name}}"):
        assert server.asked.empty()
    accept = {"cookie": "session=new", "accept": "application/json"}
    failed = hub.client.get("/events", params=query, headers=accept)
    assert failed.status_code == 503, failed.text
    assert failed.json()["type"] == "urn:tidings:problem:authorization-unavailable"
    with Stream(hub.port, headers={"cookie": "session=new"}, topic=topic) as told:
        assert int(told.line().removeprefix("retry: ")) > 2000, "to come back later"
        with pytest.raises(EOFError):
            told.event()


def check_signed(headers: dict, body: bytes) -> None:
    """As Standard Webhooks has it."""
    headers = {name.lower(): value for name, value in headers.items()}
    signed = b".".join(headers[name].encode() for name in ("webhook-id", "webhook-timestamp"))
    made = hmac.digest(SECRET.encode(), signed + b"." + body, hashlib.sha256)
    assert headers["webhook-signature"] == "v1," + base64.b64encode(made).decode()


def test_the_application_hears_of_users_once_they_come_and_go(start_hub, server, tmp_path):
    key = EcKey(tmp_path)
    failures = [500, 503]
    server.answer = lambda path, body: (failures.pop() if failures else 204, b"")
    options = ["--connection-webhook", f"{server.url}/news", "--webhook-secret", SECRET]
    hub = start_hub(
        *options, "--connection-webhook-debounce", "100ms", "--key-file", str(key.public)
    )
    ann = bearer(key.sign(claims("ann")))
    first = Stream(hub.port, headers=ann, topic="a")
    told = [server.next() for _ in range(3)]
    for _, headers, body in told:
        check_signed(headers, body)
    assert len({headers["webhook-id"] for _, headers, _ in told}) == 1, "told until it is heard"
    assert said(told[0][2]) == ("tidings.connected", "ann")
    with first, Stream(hub.port, headers=ann, topic="b"):
        pass
    assert server.news() == ("tidings.disconnected", "ann")
    assert server.asked.empty()


def said(body: bytes) -> tuple[str, str]:
    news = json.loads(body)
    return news["type"], news["user"]


def test_who_was_there_when_the_hub_crashed_is_reported_gone(start_hub, server, tmp_path):
    key = EcKey(tmp_path)
    server.answer = lambda path, body: (204, b"")
    options = ["--connection-webhook", f"{server.url}/news", "--connection-webhook-debounce", "5s"]
    options += ["--key-file", str(key.public)]
    hub = start_hub(*options, data=tmp_path / "data")
    users = ["ann", "bob"]
    streams = [
        Stream(hub.port, headers=bearer(key.sign(claims(user))), topic="a") for user in users
    ]
    assert {server.news() for _ in users} == {("tidings.connected", user) for user in users}
    hub.kill()
    hub = start_hub(*options, data=tmp_path / "data")
    with Stream(hub.port, headers=bearer(key.sign(claims("ann"))), topic="a"):
        assert server.news() == ("tidings.disconnected", "bob")
    assert server.news() == ("tidings.disconnected", "ann")
    for stream in streams:
        stream.close()
