"""What one client may have and do, and where it is taken to come from."""

import socket
import struct

import httpx

from stream import Stream

# Version 2 of the PROXY protocol: signature, version and command, TCP over IPv4, length.
SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"


def proxied(address: str, version: int) -> bytes:
    """What a proxy says first when it connects for a client at `address`."""
    if version == 1:
        return f"PROXY TCP4 {address} 127.0.0.1 4711 80\r\n".encode()
    addresses = socket.inet_aton(address) + socket.inet_aton("127.0.0.1")
    return SIGNATURE + struct.pack(">BBH", 0x21, 0x11, 12) + addresses + struct.pack(">HH", 4711, 80)


def ask(port: int, first: bytes, path: str) -> bytes:
    """The answer to a `GET` behind whatever comes first; nothing if there is none."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        request = f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
        connection.sendall(first + request.encode())
        answer = b""
        try:
            while piece := connection.recv(65536):
                answer += piece
        except ConnectionResetError:
            pass
    return answer


def test_a_proxy_says_where_a_client_comes_from(start_hub):
    hub = start_hub("--proxy-protocol", "127.0.0.1", "--max-connections-per-ip", "1")
    poll = "/events?topic=a&mode=poll&wait=0"
    for version in (1, 2):
        assert ask(hub.port, proxied("203.0.113.7", version), poll).startswith(b"HTTP/1.1 200")
    assert ask(hub.port, b"", poll) == b"", "a proxy that does not say it is no proxy"
    stream = socket.create_connection(("127.0.0.1", hub.port), timeout=20)
    head = b"GET /events?topic=a HTTP/1.1\r\nhost: localhost\r\n\r\n"
    stream.sendall(proxied("203.0.113.7", 2) + head)
    assert b"200 OK" in stream.recv(65536)
    listed = ask(hub.port, proxied("198.51.100.1", 2), "/connections")
    assert b'"ip":"203.0.113.7"' in listed
    # The limit is for the client, not for the proxy.
    assert b"retry: 2000" in ask(hub.port, proxied("198.51.100.1", 2), poll)
    assert b"retry: 2000" not in ask(hub.port, proxied("203.0.113.7", 2), poll)
    stream.close()


def test_nobody_else_can_say_it(start_hub):
    hub = start_hub("--proxy-protocol", "192.0.2.0/24")
    assert not ask(hub.port, proxied("203.0.113.7", 1), "/health/live").startswith(b"HTTP/1.1 200")
    assert ask(hub.port, b"", "/health/live").startswith(b"HTTP/1.1 200")


def test_events_beyond_the_rate_are_refused_or_read_later(start_hub):
    hub = start_hub("--publish-rate", "20", "--publish-burst", "5")
    event = {"topic": "a", "data": "x"}
    answers = [hub.client.post("/events", json=[event] * 5) for _ in range(2)]
    while answers[-1].status_code == 200:
        answers.append(hub.client.post("/events", json=[event] * 5))
    refused = answers[-1]
    assert refused.status_code == 429, refused.text
    assert refused.json()["type"] == "urn:tidings:problem:too-many-requests"
    assert int(refused.headers["retry-after"]) >= 1
    never = hub.client.post("/events", json=[event] * 6)
    assert never.status_code == 429 and "retry-after" not in never.headers
    lines = b'{"topic":"a"}\n' * 20
    piped = hub.client.post(
        "/events", content=lines, headers={"content-type": "application/x-ndjson"}
    )
    assert len(piped.json()["ids"]) == 20, piped.text
    assert hub.metric("tidings_refused_total") >= 2


def test_streams_beyond_the_rate_are_told_when_to_come_back(start_hub):
    hub = start_hub("--connect-rate", "1", "--connect-burst", "2")
    retries: list[int] = []
    while not retries or retries[-1] <= 2000:
        with Stream(hub.port, topic="a") as stream:
            retries.append(int(stream.line().removeprefix("retry: ")))
        assert len(retries) < 100, "so many in so little time"
    poll = {"topic": "a", "mode": "poll", "wait": 0}
    answer = httpx.Response(200)
    while answer.status_code == 200:
        answer = hub.client.get("/events", params=poll, headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["status"]) == (429, 429)
