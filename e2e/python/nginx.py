"""A real nginx in front of a hub, with its own prefix and a socket it inherits."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

BINARY = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")

CONFIG = """\
{user}
daemon off;
pid {prefix}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {prefix}/body;
    proxy_temp_path {prefix}/proxy;
    fastcgi_temp_path {prefix}/fastcgi;
    uwsgi_temp_path {prefix}/uwsgi;
    scgi_temp_path {prefix}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{hub_port};
{directives}
        }}
    }}
}}
"""


class Nginx:
    """nginx with default settings, but for `directives` in its only location.

    The listening socket is made here and inherited, so a connection made at once waits in its
    backlog until nginx accepts it: there is nothing to wait for.
    """

    def __init__(self, hub_port: int, prefix: Path, *directives: str):
        assert BINARY, "nginx is not installed"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=511)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = prefix / "nginx.conf"
        config.write_text(
            CONFIG.format(
                user="user root;" if os.geteuid() == 0 else "",
                prefix=prefix,
                port=self.port,
                hub_port=hub_port,
                directives="\n".join(f"            {directive};" for directive in directives),
            )
        )
        descriptor = self._socket.fileno()
        self._log = (prefix / "error.log").open("wb")
        self._process = subprocess.Popen(
            [BINARY, "-p", prefix, "-c", config],
            pass_fds=[descriptor],
            env={"NGINX": f"{descriptor};"},
            stdout=self._log,
            stderr=self._log,
        )

    def close(self) -> None:
        """Ends nginx with its workers."""
        self._process.terminate()
        self._process.wait(timeout=10)
        self._socket.close()
        self._log.close()
