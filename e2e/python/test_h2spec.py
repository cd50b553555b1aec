"""What the specification of HTTP/2 has for servers, by the cases of h2spec."""

import re
import ssl
import subprocess
from pathlib import Path

import pytest

from conftest import REPOSITORY

H2SPEC = REPOSITORY / ".test-env/bin/h2spec"

# Cases that may fail, and why that is right.
EXCEPTIONS = {
    "8: closed: Sends a DATA frame after sending RST_STREAM frame": """
        The answer may be complete when the reset comes. What comes on a stream that both have closed is
        taken in and dropped (RFC 9113, section 5.1).
    """,
}
EXCEPTIONS_IN_PLAIN = {
    "2: Sends invalid connection preface": """
        What does not begin like HTTP/2 is HTTP/1.1 here, and answered 400 in its terms.
    """,
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "TLS"])
def test_every_case_passes(start_hub, tmp_path: Path, encrypted: bool, figure):
    options = ["--tls-self-signed"] if encrypted else []
    trust = Path(ssl.get_default_verify_paths().openssl_cafile) if encrypted else None
    hub = start_hub(*options, data=tmp_path, trust=trust)
    command = [H2SPEC, "--host", "127.0.0.1", "--port", str(hub.port), "--path", "/health/live"]
    command += ["--timeout", "5", "--strict"]
    if encrypted:
        command += ["--tls", "--insecure"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    failed = re.findall(r"^\s*(?:\x1b\[\d+m)?\u00d7 (.*?)(?:\x1b\[0m)?$", done.stdout, re.MULTILINE)
    excepted = EXCEPTIONS if encrypted else EXCEPTIONS | EXCEPTIONS_IN_PLAIN
    assert set(failed) <= set(excepted), done.stdout
    summary = re.search(r"(\d+) tests, (\d+) passed, (\d+) skipped, (\d+) failed", done.stdout)
    assert summary, done.stdout + done.stderr
    assert int(summary[2]) > 100
    figure(f"h2spec, {'TLS' if encrypted else 'plain'}: {summary[0]}")
