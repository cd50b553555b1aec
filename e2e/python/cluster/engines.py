"""A real Redis and a real Postgres in folders of their own, and what may happen to them."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import IO

from cluster.waiting import free_port, wait_for

PASSWORD = "what-only-the-nodes-know"


def program(name: str) -> str:
    """Where a program is: Debian keeps those of Postgres, and of administrators, off the path."""
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    newest_first = sorted(versions, key=lambda folder: int(folder.parent.name), reverse=True)
    places = [os.environ.get("PATH", ""), "/usr/sbin", *map(str, newest_first)]
    found = shutil.which(name, path=":".join(places))
    assert found, f"{name} is not installed"
    return found


class Engine:
    """A server on a port of its own, which it keeps however often it is restarted."""

    name = ""

    def __init__(self) -> None:
        # Not pytest's folder: another user has to be able to reach it.
        self.folder = Path(tempfile.mkdtemp(prefix=f"tidings-{self.name}-"))
        self.folder.chmod(0o755)
        self.port = free_port()
        self._log = (self.folder / "said").open("wb")
        self._process: subprocess.Popen | None = None
        self.make_empty()
        self.start()

    def url(self, port: int | None = None, password: str = PASSWORD, log: str = "tidings") -> str:
        """What a node is given; by way of a proxy if its port is named."""
        raise NotImplementedError

    def make_empty(self) -> None:
        """Makes its data as they are before its first start."""
        raise NotImplementedError

    def command(self) -> list[object]:
        """What starts it in the foreground."""
        raise NotImplementedError

    def answers(self) -> bool:
        """Whether it is there for its clients."""
        raise NotImplementedError

    def start(self) -> None:
        """Starts it, unless it runs, with the data that it has."""
        if self._process is None:
            self._process = self._popen(self.command(), stdout=self._log, stderr=self._log)
        wait_for(self.answers, self.said)

    def stop(self) -> None:
        """Ends it in good order."""
        self._end(self._stop_signal)

    def kill(self) -> None:
        """Ends it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def freeze(self) -> None:
        """It does nothing any more, and its connections stay."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """It goes on as if nothing had been."""
        self._signal(signal.SIGCONT)

    def restart_empty(self) -> None:
        """Loses everything."""
        self.kill()
        self.make_empty()
        self.start()

    def said(self) -> str:
        """What it wrote to its standard streams."""
        return (self.folder / "said").read_text(errors="replace")

    def close(self) -> None:
        """Ends it and removes its data."""
        self.thaw()
        self.kill()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    _stop_signal = signal.SIGTERM

    def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        if number == signal.SIGKILL:
            # First it starts no more children; those would end by themselves, but later.
            self._process.send_signal(signal.SIGSTOP)
            started = self._signal(number)
            wait_for(lambda: not any(map(runs, started)), lambda: f"{started} go on")
        else:
            self._process.send_signal(number)
            self.thaw()
        self._process.wait(timeout=60)
        self._process = None

    def _signal(self, number: signal.Signals) -> list[int]:
        """Tells it and its children, which are returned."""
        if self._process is None:
            return []
        started = children(self._process.pid)
        for pid in [self._process.pid, *started]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return started

    def _popen(self, command: list[object], **streams: IO) -> subprocess.Popen:
        return subprocess.Popen(command, cwd=self.folder, **streams)


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def children(parent: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            # After the name, which is in parentheses and may contain anything.
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent:
            found.append(int(stat.parent.name))
    return found


class Redis(Engine):
    """Redis that acknowledges what is on disk, unless told otherwise."""

    name = "redis"

    def __init__(self, *options: str) -> None:
        self._options = options
        super().__init__()

    def url(self, port: int | None = None, password: str = PASSWORD, log: str = "tidings") -> str:
        return f"redis://:{password}@127.0.0.1:{port or self.port}/0?name={log}"

    def make_empty(self) -> None:
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        (self.folder / "data").mkdir()

    def command(self) -> list[object]:
        command = [program("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--dir", self.folder / "data", "--save", "", "--requirepass", PASSWORD]
        return command + ["--appendonly", "yes", "--appendfsync", "always", *self._options]

    def answers(self) -> bool:
        return self._run("PING", password=self._password).strip() == "PONG"

    def tell(self, *command: str) -> str:
        """Has redis-cli say it."""
        return self._run(*command, password=self._password).strip()

    def fill(self) -> None:
        """It takes nothing more."""
        assert self.tell("CONFIG", "SET", "maxmemory", "1") == "OK"
        assert self.tell("CONFIG", "SET", "maxmemory-policy", "noeviction") == "OK"

    def make_room(self) -> None:
        """It has room again."""
        assert self.tell("CONFIG", "SET", "maxmemory", "0") == "OK"

    def make_read_only(self) -> None:
        """It is somebody's replica, as after a takeover; of a master that is not there."""
        assert self.tell("CONFIG", "SET", "replica-serve-stale-data", "yes") == "OK"
        assert self.tell("REPLICAOF", "127.0.0.1", "1") == "OK"

    def make_writable(self) -> None:
        """It is its own master again."""
        assert self.tell("REPLICAOF", "NO", "ONE") == "OK"

    def change_password(self, password: str) -> None:
        """The old one is refused from now on, for connections made already as well."""
        assert self.tell("CONFIG", "SET", "requirepass", password) == "OK"
        self._password = password
        self.tell("CLIENT", "KILL", "TYPE", "normal")

    _password = PASSWORD

    def _run(self, *command: str, password: str) -> str:
        done = subprocess.run(
            [program("redis-cli"), "-p", str(self.port), *command],
            capture_output=True,
            text=True,
            timeout=30,
            env=os.environ | {"REDISCLI_AUTH": password},
        )
        return done.stdout


class Postgres(Engine):
    """Postgres as it is by default; run by the user `postgres` if the tests are run by root."""

    name = "postgres"
    _stop_signal = signal.SIGINT

    def url(self, port: int | None = None, password: str = PASSWORD, log: str = "tidings") -> str:
        return f"postgres://tidings:{password}@127.0.0.1:{port or self.port}/postgres?name={log}"

    def make_empty(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        secret = self.folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [program("initdb"), "-D", self.folder / "data", "-U", "tidings", "--no-sync"]
        command += [f"--pwfile={secret}", "-A", "scram-sha-256", "-E", "UTF8", "--locale=C"]
        process = self._popen(command, stdout=self._log, stderr=self._log)
        assert process.wait(timeout=120) == 0, self.said()

    def command(self) -> list[object]:
        options = [f"port={self.port}", "listen_addresses=127.0.0.1", "max_connections=60"]
        options += [f"unix_socket_directories={self.folder}", "shared_buffers=32MB"]
        command = [program("postgres"), "-D", self.folder / "data"]
        return command + [word for option in options for word in ("-c", option)]

    def answers(self) -> bool:
        return self._run("select 1").stdout.strip() == "1"

    def tell(self, sql: str) -> str:
        """Has psql say it."""
        done = self._run(sql)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def make_read_only(self) -> None:
        """No transaction may write, also in connections made already."""
        self.tell("alter system set default_transaction_read_only = on")
        self._take_up()

    def make_writable(self) -> None:
        """They may again."""
        self.tell("alter system reset default_transaction_read_only")
        self._take_up()

    def change_password(self, password: str) -> None:
        """The old one is refused from now on, and who had come with it has to come again."""
        self.tell(f"alter user tidings password '{password}'")
        self._password = password
        self.tell(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where pid <> pg_backend_pid() and usename = 'tidings'"
        )

    _password = PASSWORD

    def _take_up(self) -> None:
        self.tell("select pg_reload_conf()")

    def _run(self, sql: str) -> subprocess.CompletedProcess:
        # Not read-only, whatever the server says: else nobody could change that back.
        options = "-c default_transaction_read_only=off"
        variables = {"PGPASSWORD": self._password, "PGOPTIONS": options}
        place = f"host=127.0.0.1 port={self.port} user=tidings dbname=postgres"
        return subprocess.run(
            [program("psql"), "-d", place, "-qAtXc", sql],
            capture_output=True,
            text=True,
            timeout=30,
            env=os.environ | variables,
        )

    def _popen(self, command: list[object], **streams: IO) -> subprocess.Popen:
        if os.geteuid() == 0:
            streams |= {"user": "postgres", "group": "postgres", "extra_groups": []}
        return subprocess.Popen(command, cwd=self.folder, **streams)


ENGINES = {engine.name: engine for engine in (Redis, Postgres)}
