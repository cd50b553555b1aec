"""A real nginx in front of a hub, with its own prefix and a socket it inherits."""

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

BINARY = shutil.which("nginx", path=os.environ.get("PATH", "") + ":/usr/sbin")

# Around a `location`: nginx's defaults.
SERVER = """\
events {{ }}
http {{
    server {{
        listen 127.0.0.1:8000;
        {location}
    }}
}}
"""

# What lets any configuration run in a folder of its own, without rights and in the foreground.
PREAMBLE = """\
daemon off;
pid nginx.pid;
error_log stderr notice;
"""
HTTP_PREAMBLE = """
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    fastcgi_temp_path fastcgi;
    uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
"""


def location(*directives: str) -> str:
    """A `location` that passes everything on, with these directives."""
    lines = "".join(
        f"{directive};\n" for directive in ("proxy_pass http://127.0.0.1:8080", *directives)
    )
    return f"location / {{\n{lines}}}\n"


class Nginx:
    """nginx with a configuration, or a `location` and default settings around it.

    In it, port 8080 stands for the hub's port and 8000 for nginx's own. The listening socket is made
    here and inherited, so a connection made at once waits in its backlog until nginx accepts it: there
    is nothing to wait for.
    """

    def __init__(self, hub_port: int, prefix: Path, config: str):
        assert BINARY, "nginx is not installed"
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.port = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        if "http {" not in config:
            config = SERVER.format(location=config)
        config = re.sub(r"\b8080\b", str(hub_port), config)
        config = re.sub(r"\b8000\b", str(self.port), config)
        config = config.replace("http {", "http {" + HTTP_PREAMBLE)
        user = "user root;\n" if os.geteuid() == 0 else ""
        (prefix / "nginx.conf").write_text(PREAMBLE + user + config)
        descriptor = self._socket.fileno()
        self.log = prefix / "error.log"
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [BINARY, "-p", prefix, "-c", "nginx.conf"],
                pass_fds=[descriptor],
                env={"NGINX": f"{descriptor};"},
                stdout=log,
                stderr=log,
            )

    def close(self) -> None:
        """Ends nginx with its workers."""
        self._process.terminate()
        self._process.wait(timeout=10)
        self._socket.close()
