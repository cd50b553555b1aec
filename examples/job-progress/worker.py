#!/usr/bin/env python3
"""Checksums every file of a folder, and tells a tidings hub how far it is.

    worker.py jobs/7 /var/backups --rate 20

Prints what `sha256sum` would. Publishes under the topic of the job: an event `progress` for each
percent, and `complete`, or `failed`, as the last event of the topic.

Each event has a key, so a worker that was killed is simply started again: it does its work anew,
and what it has published before is not published twice. Needs Python 3.9 and nothing else.
"""

import argparse
import hashlib
import json
import os
import random
import sys
import time
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

HUB = os.environ.get("TIDINGS_URL", "http://127.0.0.1:8080")
CHUNK_BYTES = 64 << 10
# What may be better after a while.
TRANSIENT = (408, 429, 502, 503, 504)
# How long a hub may take to come back: a restart, or a look at its disk.
PATIENCE_S = 300


class Job:
    """A topic of the hub that is told how far a job is, from 0 to 100 percent and then the end."""

    def __init__(self, topic: str):
        self.topic = topic
        self._told = -1

    def progress(self, percent: int, file: str) -> None:
        """Tells each percent up to this one that was not told yet, in one request."""
        due = range(self._told + 1, percent + 1)
        if due:
            self._publish([self._event("progress", n, {"percent": n, "file": file}) for n in due])
            self._told = percent

    def end(self, event: str, **data: object) -> None:
        """Tells that nothing more will come: streams of this topic end here."""
        self._publish([self._event(event, "end", data) | {"final": True}])

    def _event(self, event: str, key: object, data: dict) -> dict:
        return {"topic": self.topic, "event": event, "key": f"{self.topic}:{key}", "data": data}

    def _publish(self, events: list) -> None:
        """Publishes all or nothing of it, once, and tries until the hub has said so."""
        body = json.dumps(events).encode()
        request = Request(f"{HUB}/events", body, {"Content-Type": "application/json"})
        give_up_at = time.monotonic() + PATIENCE_S
        pause_s = 0.1
        while True:
            try:
                with urlopen(request, timeout=30) as answer:
                    answer.read()
                return
            except HTTPError as error:
                # The hub has refused it, and would again.
                if error.code not in TRANSIENT or time.monotonic() > give_up_at:
                    sys.exit(f"worker: {json.load(error).get('detail')}")
            except (OSError, HTTPException) as error:
                # Nobody knows whether it was published. The keys make it harmless to try again.
                if time.monotonic() > give_up_at:
                    sys.exit(f"worker: no answer from {HUB}: {error}")
            time.sleep(pause_s * random.uniform(0.5, 1))
            pause_s = min(2 * pause_s, 5)


def checksum(job: Job, folder: Path, bytes_per_s: float) -> None:
    """Prints the checksum of each file below a folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    total = sum(path.stat().st_size for path in files)
    begun, done = time.monotonic(), 0
    for path in files:
        name = str(path.relative_to(folder))
        digest = hashlib.sha256()
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                digest.update(chunk)
                done += len(chunk)
                # The last percent is told when the work is done, and not when it is nearly done.
                job.progress(min(100 * done // total, 99), name)
                ahead_s = begun + done / bytes_per_s - time.monotonic()
                if ahead_s > 0:
                    time.sleep(ahead_s)
        print(f"{digest.hexdigest()}  {name}", flush=True)
    job.progress(100, "")
    job.end("complete", files=len(files), bytes=done)


def main() -> None:
    parser = argparse.ArgumentParser(description="Checksum a folder, and publish how far it is.")
    parser.add_argument("topic", help="the topic of this job, such as jobs/7; one for each job")
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--rate", type=float, default=float("inf"), metavar="MIB", help="read this much a second"
    )
    arguments = parser.parse_args()
    if not arguments.folder.is_dir():
        parser.error(f"{arguments.folder} is no folder")
    if not arguments.rate > 0:
        parser.error("the rate is more than 0")
    job = Job(arguments.topic)
    job.progress(0, "")
    try:
        checksum(job, arguments.folder, arguments.rate * (1 << 20))
    except OSError as error:
        job.end("failed", reason=str(error))
        sys.exit(f"worker: {error}")


if __name__ == "__main__":
    main()
