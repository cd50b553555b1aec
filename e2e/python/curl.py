"""curl as a reader of streams, for what Python's own client does not speak."""

import subprocess


class Curl:
    """curl that reads a stream."""

    def __init__(self, url: str, *options: str):
        self._process = subprocess.Popen(
            ["curl", "--silent", "--show-error", "--no-buffer", "--include", *options, url],
            stdout=subprocess.PIPE,
            text=True,
        )

    def until(self, wanted: str) -> list[str]:
        """The lines up to the wanted one."""
        lines = []
        while not lines or lines[-1] != wanted:
            line = self._process.stdout.readline()
            assert line, f"the end, and no {wanted!r} in {lines}"
            lines.append(line.rstrip("\r\n"))
        return lines

    def end(self) -> tuple[int, str]:
        """The exit status, and what came before it."""
        rest = self._process.stdout.read()
        self._process.stdout.close()
        return self._process.wait(timeout=20), rest

    def __enter__(self) -> "Curl":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()
