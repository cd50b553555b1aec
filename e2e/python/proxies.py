"""The proxies of `deploy/`, really started: each file as it stands there, with addresses of this machine."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from cluster.engines import program
from cluster.waiting import free_port, takes_connections, wait_for
from conftest import REPOSITORY
from curl import Curl
from stream import Stream

DEPLOY = REPOSITORY / "deploy"
NAME = "events.example.com"
CLIENT_CONNECTIONS_MAX = 4000

ENTRANCES = {"plain": "--http1.1", "HTTP/1.1 over TLS": "--http1.1", "HTTP/2 over TLS": "--http2"}


class Certificate:
    """A new certificate for the name in the configurations, and for this machine."""

    def __init__(self, folder: Path):
        self.cert, self.key = folder / "fullchain.pem", folder / "privkey.pem"
        self.both = folder / "both.pem"
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        names = f"subjectAltName=DNS:{NAME},DNS:localhost,IP:127.0.0.1"
        command += f" -subj /CN={NAME} -addext {names} -addext basicConstraints=critical,CA:FALSE"
        subprocess.run(
            [*command.split(), "-keyout", self.key, "-out", self.cert],
            check=True,
            capture_output=True,
        )
        self.both.write_text(self.cert.read_text() + self.key.read_text())


class Proxy:
    """A proxy with a configuration of `deploy/`, before one to three hubs."""

    file = ""

    def __init__(self, hub_ports: list[int], certificate: Certificate, folder: Path, changed: dict[str, str] | None = None):
        self._certificate = certificate
        self.http_port, self.https_port, self.inside_port = (free_port() for _ in range(3))
        text = (DEPLOY / self.file).read_text()
        for old, new in [*self.places(certificate, folder), *(changed or {}).items()]:
            assert old in text, f"{self.file} does not say {old!r}"
            text = text.replace(old, new)
        self._log = folder / "said"
        self._process = subprocess.Popen(
            self.command(self._written(text, hub_ports, folder)),
            stdout=self._log.open("wb"),
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=os.environ | {"HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        )
        for port in self.listens():
            wait_for(lambda port=port: self._takes_connections(port), self.said)

    def places(self, certificate: Certificate, folder: Path) -> Iterator[tuple[str, str]]:
        """What the file says, and what it is to say here."""
        raise NotImplementedError

    def command(self, file: Path) -> list[object]:
        """What starts the proxy in the foreground."""
        raise NotImplementedError

    def one_hub_less(self, text: str, address: str) -> str:
        """The file without the hub at an address."""
        return re.sub(rf"^.*{re.escape(address)}.*\n", "", text, flags=re.MULTILINE)

    def listens(self) -> list[int]:
        """The ports that it takes connections at."""
        return [self.http_port, self.https_port, self.inside_port]

    def _written(self, text: str, hub_ports: list[int], folder: Path) -> Path:
        """The file with the hubs of a test in it."""
        for number in range(3):
            address = re.search(rf"10\.0\.0\.1{number + 1}:\d+", text)[0]
            if number < len(hub_ports):
                text = text.replace(address, f"127.0.0.1:{hub_ports[number]}")
            else:
                text = self.one_hub_less(text, address)
        path = folder / Path(self.file).name
        path.write_text(text)
        return path

    def _takes_connections(self, port: int) -> bool:
        assert self._process.poll() is None, self.said()
        return takes_connections(port)

    @property
    def inside(self) -> str:
        """The URL for publishers."""
        return f"http://127.0.0.1:{self.inside_port}"

    def stream(self, **query: object) -> Stream:
        """A stream through the entrance without TLS."""
        return Stream(self.inside_port, **query)

    def curl_arguments(self, entrance: str, target: str) -> list[str]:
        """What curl needs to ask for something through any entrance."""
        if entrance == "plain":
            return [ENTRANCES[entrance], self.inside + target]
        options = ["--resolve", f"{NAME}:{self.https_port}:127.0.0.1"]
        options += ["--cacert", str(self._certificate.cert)]
        return [ENTRANCES[entrance], *options, f"https://{NAME}:{self.https_port}{target}"]

    def curl(self, entrance: str, topic: str, *options: str) -> Curl:
        """A stream through any entrance."""
        *arguments, url = self.curl_arguments(entrance, f"/events?topic={topic}")
        return Curl(url, *arguments, *options)

    def said(self) -> str:
        """What it wrote to its standard streams."""
        return self._log.read_text()

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        try:
            self._process.wait(timeout=20)
        finally:
            self._process.kill()
            self._process.wait()


class DeployedNginx(Proxy):
    """nginx with `deploy/nginx/nginx.conf`."""

    file = "nginx/nginx.conf"

    def places(self, certificate: Certificate, folder: Path) -> Iterator[tuple[str, str]]:
        user = "user root;" if os.geteuid() == 0 else ""
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};\n"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        yield "user www-data;", f"{user}\ndaemon off;\n"
        yield "pid /run/nginx.pid;", f"pid {folder}/nginx.pid;"
        yield "error_log /var/log/nginx/error.log;", "error_log stderr notice;"
        yield "access_log /var/log/nginx/access.log;", f"access_log off;\n{paths}"
        yield "/etc/tidings/tls/fullchain.pem", str(certificate.cert)
        yield "/etc/tidings/tls/privkey.pem", str(certificate.key)
        yield "listen 80;", f"listen 127.0.0.1:{self.http_port};"
        yield "listen 443 ", f"listen 127.0.0.1:{self.https_port} "
        yield "listen 10.0.0.10:8000;", f"listen 127.0.0.1:{self.inside_port};"

    def command(self, file: Path) -> list[object]:
        return [program("nginx"), "-p", file.parent, "-c", file]


class HAProxy(Proxy):
    """HAProxy with `deploy/haproxy/haproxy.cfg`."""

    file = "haproxy/haproxy.cfg"

    def places(self, certificate: Certificate, folder: Path) -> Iterator[tuple[str, str]]:
        yield "maxconn 100000", f"maxconn {CLIENT_CONNECTIONS_MAX}"
        yield "/etc/tidings/tls/both.pem", str(certificate.both)
        yield "bind :80\n", f"bind 127.0.0.1:{self.http_port}\n"
        yield "bind :443 ", f"bind 127.0.0.1:{self.https_port} "
        yield "bind 10.0.0.10:8000", f"bind 127.0.0.1:{self.inside_port}"

    def command(self, file: Path) -> list[object]:
        return [program("haproxy"), "-db", "-f", file]


class HAProxyPassthrough(HAProxy):
    """HAProxy with `deploy/haproxy/tls-passthrough.cfg`: it does not read what it passes on."""

    file = "haproxy/tls-passthrough.cfg"

    def places(self, certificate: Certificate, folder: Path) -> Iterator[tuple[str, str]]:
        yield "maxconn 100000", f"maxconn {CLIENT_CONNECTIONS_MAX}"
        yield "bind :443\n", f"bind 127.0.0.1:{self.https_port}\n"

    def listens(self) -> list[int]:
        return [self.https_port]


class Caddy(Proxy):
    """Caddy with `deploy/caddy/Caddyfile`, and a certificate instead of an authority."""

    file = "caddy/Caddyfile"

    def places(self, certificate: Certificate, folder: Path) -> Iterator[tuple[str, str]]:
        ports = f"http_port {self.http_port}\n\thttps_port {self.https_port}"
        here = f"{{\n\tadmin off\n\tdefault_bind 127.0.0.1\n\t{ports}\n}}\n"
        yield "(hubs) {", f"{here}\n(hubs) {{"
        yield f"\n{NAME} {{", f"\n{NAME} {{\n\ttls {certificate.cert} {certificate.key}"
        yield "http://:8000", f"http://:{self.inside_port}"
        yield "bind 10.0.0.10", "bind 127.0.0.1"

    def command(self, file: Path) -> list[object]:
        return [program("caddy"), "run", "--adapter", "caddyfile", "--config", file]

    def one_hub_less(self, text: str, address: str) -> str:
        return text.replace(f" {address}", "")
