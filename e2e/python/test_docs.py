"""The examples in the documents do what they say, from the first to the last on one hub."""

import os
import re
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from conftest import REPOSITORY
from hub import BINARY
from nginx import location

PAGES = [
    "reference/http-api.md",
    "operate/nginx.md",
    "start/exactly-once.md",
    "start/topics-that-end.md",
    "start/dashboards.md",
]


def environment(hub) -> dict[str, str]:
    """Lets commands find the built binary as `tidings`, and it the hub."""
    path = f"{BINARY.parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TIDINGS_URL": hub.url}


def examples(text: str) -> list[tuple[str, list[str]]]:
    """The commands of a page's `console` blocks, each with the lines it should print."""
    found: list[tuple[str, list[str]]] = []
    for block in re.findall(r"```console\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", "").splitlines():
            if line.startswith("$ "):
                found.append((line[2:], []))
            else:
                found[-1][1].append(line)
    return found


def check_line(command: str, line: str, expected: str) -> None:
    """Compares a line; `…` stands for anything."""
    pattern = ".*".join(map(re.escape, expected.split("…")))
    assert re.fullmatch(pattern, line), f"{command}\nprinted  {line!r}\nexpected {expected!r}"


class Running:
    """A command under way, and the lines it has yet to print."""

    def __init__(self, command: str, expected: list[str]):
        self._command = command
        self._expected = iter(expected)
        self._process = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], stdout=subprocess.PIPE, text=True
        )

    def check_first_line(self) -> None:
        """Waits for the first line, with which a stream is open."""
        self._check(next(self._expected))

    def check_rest(self) -> None:
        """Waits for the other lines."""
        for expected in self._expected:
            self._check(expected)

    def _check(self, expected: str) -> None:
        check_line(self._command, self._process.stdout.readline().removesuffix("\n"), expected)

    def __enter__(self) -> "Running":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()


@pytest.mark.parametrize("page", PAGES)
def test_examples_work(start_hub, start_nginx, tmp_path, page):
    hub = start_hub()
    proxy = start_nginx(hub, location("proxy_http_version 1.1"))
    text = (REPOSITORY / "docs" / page).read_text()
    check_examples(text.replace("http://127.0.0.1:8000", proxy.url), hub, tmp_path)


def test_a_private_stream_comes_about_from_a_new_key(start_hub, tmp_path):
    text = (REPOSITORY / "docs/start/tokens.md").read_text()
    make_key, serve = re.search(r"```sh\n(.*)\ntidings serve (.*)\n```", text).groups()
    subprocess.run(["bash", "-c", make_key], cwd=tmp_path, check=True)
    key = str(tmp_path / "hub.key")
    hub = start_hub(*(key if option == "hub.key" else option for option in serve.split()))
    check_examples(text, hub, tmp_path)


def check_examples(text: str, hub, folder) -> None:
    """Runs the commands of a page in a folder, and compares what they print."""
    text = text.replace("http://127.0.0.1:8080", hub.url)
    with ExitStack() as running:
        streams = []
        for command, expected in examples(text):
            if re.search(r"curl -s?N", command):
                streams.append(running.enter_context(Running(command, expected)))
                streams[-1].check_first_line()
                continue
            printed = subprocess.run(
                ["bash", "-c", command],
                capture_output=True,
                text=True,
                timeout=20,
                cwd=folder,
                env=environment(hub),
            )
            lines = printed.stdout.splitlines()
            assert len(lines) == len(expected), f"{command}\nprinted {printed.stdout}"
            for line, wanted in zip(lines, expected, strict=True):
                check_line(command, line, wanted)
        for stream in streams:
            stream.check_rest()


def test_recipe_in_python_publishes_once_and_waits_for_a_hub(start_hub, tmp_path):
    page = (REPOSITORY / "docs/start/exactly-once.md").read_text()
    recipe, call = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    data = tmp_path / "data"
    hub = start_hub(data=data)
    names: dict = {}
    exec(recipe.replace("http://127.0.0.1:8080", hub.url), names)
    first = eval(call, names)
    hub.kill()
    with ThreadPoolExecutor() as threads:
        again = threads.submit(eval, call, names)
        start_hub(data=data, port=hub.port)
        assert again.result(timeout=60) == first
