"""A subscription over http.client: lines as they arrive, and when they arrived."""

import time
from http.client import HTTPConnection
from typing import NamedTuple
from urllib.parse import urlencode


class Event(NamedTuple):
    """One event with the time its last line arrived."""

    id: str | None
    event: str | None
    data: str | None
    at: float


class Stream:
    """An open event stream. `head_ms` and `first_line_ms` count from the request.

    `begins_after` is the id of the first block, if the stream begins with one that is no event.
    `source` is the address to come from.
    """

    def __init__(
        self,
        port: int,
        path: str = "/events",
        headers: dict | None = None,
        source: str = "127.0.0.1",
        **query,
    ):
        target = f"{path}?{urlencode(query, doseq=True)}" if query else path
        self.begins_after: str | None = None
        self._connection = HTTPConnection(
            "127.0.0.1", port, timeout=20, source_address=(source, 0)
        )
        self._connection.connect()
        asked = time.monotonic()
        self._connection.request(
            "GET", target, headers={"accept": "text/event-stream"} | (headers or {})
        )
        self.response = self._connection.getresponse()
        self.head_ms = (time.monotonic() - asked) * 1000
        assert self.response.status == 200, self.response.read()
        self.heartbeats = 0
        self._unread: str | None = None
        self.first_line = self._unread = self.line()
        self.first_line_ms = (time.monotonic() - asked) * 1000

    def line(self) -> str:
        """The next line, without its end. Raises EOFError when the stream has ended."""
        if self._unread is not None:
            line, self._unread = self._unread, None
            return line
        line = self.response.readline()
        if not line:
            raise EOFError
        return line.decode().removesuffix("\n")

    def heartbeat(self) -> None:
        """Reads up to the next heartbeat."""
        while self.line() != ":":
            pass
        self.heartbeats += 1

    def event(self) -> Event:
        """Reads the next event; heartbeats before it are counted."""
        fields: dict[str, str] = {}
        while True:
            line = self.line()
            if line == ":":
                self.heartbeats += 1
            elif line == "" and "data" in fields:
                fields.setdefault("id", None)
                fields.setdefault("event", None)
                return Event(fields["id"], fields["event"], fields["data"], time.monotonic())
            elif line == "" and fields.keys() - {"retry"} == {"id"} and not self.begins_after:
                self.begins_after = fields.pop("id")
            elif line == "":
                raise AssertionError(f"a block without data: {fields}")
            else:
                name, _, value = line.partition(": ")
                fields[name] = f"{fields[name]}\n{value}" if name in fields else value

    def close(self) -> None:
        """Closes the socket."""
        self.response.close()
        self._connection.close()

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
