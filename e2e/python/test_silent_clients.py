"""Clients that connect and say nothing, more than there are files for."""

import resource
import socket

FILES = 200


def test_who_asks_is_served_when_files_run_out(start_hub):
    hub = start_hub()
    with hub.client.stream("GET", "/events", params={"topic": "a"}, timeout=60) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        resource.prlimit(hub.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        silent = [socket.create_connection(("127.0.0.1", hub.port)) for _ in range(2 * FILES)]
        for number in range(10):
            # Each time over a connection of its own.
            with socket.create_connection(("127.0.0.1", hub.port), timeout=60) as connection:
                body = f"topic=a&data={number}"
                connection.sendall(
                    f"POST /events HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
                    f"content-type: application/x-www-form-urlencoded\r\n\r\n{body}".encode()
                )
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        data = [next(line for line in lines if line.startswith("data:")) for _ in range(10)]
        assert data == [f"data: {number}" for number in range(10)]
        for connection in silent:
            connection.close()
    assert hub.metric("tidings_waiting_dropped_total") > 0
