"""The hub as its users meet it: the built binary, its address and its answers."""

import os
import re
import signal
import ssl
import subprocess
from pathlib import Path

import httpx

BINARY = Path(os.environ.get("TIDINGS_BIN", Path(__file__).parents[2] / "target/debug/tidings"))


class Hub:
    """A running `tidings serve` on the loopback interface, on a free port unless one is named.

    Keeps events at the URL `store` if there is one, else in the folder `data` if there is one, else in
    memory. If it encrypts, `trust` is its certificate.
    """

    def __init__(
        self,
        *options: str,
        log: Path,
        data: Path | None = None,
        store: str | None = None,
        port: int = 0,
        trust: Path | None = None,
    ):
        self._log = log.open("wb")
        kept = ["--log", store or "memory"] if data is None else ["--data", data]
        self._process = subprocess.Popen(
            [BINARY, "serve", "--listen", f"127.0.0.1:{port}", *kept, *options],
            stdout=subprocess.PIPE,
            stderr=self._log,
            cwd=log.parent,
            env={
                name: value for name, value in os.environ.items() if not name.startswith("TIDINGS_")
            },
            text=True,
        )
        self._asked_to_end = False
        ready = self._process.stdout.readline()
        scheme = "http" if trust is None else "https"
        url = re.search(rf"{scheme}://127\.0\.0\.1:(\d+)", ready)
        if url is None:
            self.close()
            raise AssertionError(f"no URL in {ready!r}; it said: {log.read_text()}")
        self.url = url.group(0)
        self.port = int(url.group(1))
        verify = trust is None or ssl.create_default_context(cafile=trust)
        self.client = httpx.Client(base_url=self.url, timeout=10, verify=verify)

    def publish(self, topic: str, data: object, **fields: object) -> str:
        """Publishes one event and returns its id."""
        answer = self.client.post("/events", json={"topic": topic, "data": data, **fields})
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels."""
        text = self.client.get("/metrics").text
        samples = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)", text, re.MULTILINE)
        assert samples, f"no metric {name} in:\n{text}"
        return sum(map(float, samples))

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    def said(self) -> str:
        """What it has said on standard error."""
        return Path(self._log.name).read_text()

    def begin_shutdown(self) -> None:
        """Asks the hub to end, as an init system does, unless it was asked before."""
        if not self._asked_to_end:
            self._asked_to_end = True
            self._process.send_signal(signal.SIGTERM)

    def freeze(self) -> None:
        """It does nothing, and its connections stay."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        self._process.send_signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Sends a signal."""
        self._process.send_signal(number)

    def wait(self) -> int:
        """Waits until the process has ended by itself, and returns its exit status."""
        self._asked_to_end = True
        return self._process.wait(timeout=30)

    def kill(self) -> None:
        """Ends the hub at once, as a crash does."""
        self._process.kill()
        self._process.wait()

    def close(self) -> int:
        """Ends the hub and returns its exit status."""
        self.begin_shutdown()
        try:
            return self._process.wait(timeout=30)
        finally:
            self._process.kill()
            self._process.stdout.close()
            self._log.close()
