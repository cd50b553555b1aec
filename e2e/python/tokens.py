"""Tokens, as an application makes them and as attackers bend them, without the hub's own code."""

import base64
import hmac
import json
import subprocess
import time
from pathlib import Path

SECRET = "an application and its hub share 32 bytes or more"


def encode(value: bytes | dict) -> str:
    """base64url without padding, of JSON if need be."""
    if isinstance(value, dict):
        value = json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def claims(
    user: str | None = None,
    publish: list[str] | None = None,
    subscribe: list[str] | None = None,
    operate: bool = False,
    lasts_s: float = 3600,
    **others: object,
) -> dict:
    """What a token says. A claim that is given as None is left out."""
    rights = {"publish": publish, "subscribe": subscribe, "operate": operate or None}
    said = {
        "sub": user,
        "exp": int(time.time() + lasts_s),
        "tidings": {name: value for name, value in rights.items() if value is not None},
    }
    return {name: value for name, value in (said | others).items() if value is not None}


def sign(
    said: dict, secret: str | bytes = SECRET, hash_name: str = "sha256", **header: object
) -> str:
    """A token with an HMAC signature. Whatever `header` says, it is made with `hash_name`."""
    key = secret.encode() if isinstance(secret, str) else secret
    text = f"{encode({'alg': 'HS256', 'typ': 'JWT'} | header)}.{encode(said)}"
    return f"{text}.{encode(hmac.digest(key, text.encode(), hash_name))}"


def bearer(token: str) -> dict[str, str]:
    """The header that a token is sent in."""
    return {"authorization": f"Bearer {token}"}


class EcKey:
    """A new P-256 key, made and used by OpenSSL."""

    def __init__(self, folder: Path):
        self._private = folder / "private.pem"
        self.public = folder / "public.pem"
        make = ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
        self._openssl(*make, "-out", self._private)
        self._openssl("pkey", "-in", self._private, "-pubout", "-out", self.public)

    def sign(self, said: dict, **header: object) -> str:
        """A token with an ES256 signature."""
        text = f"{encode({'alg': 'ES256', 'typ': 'JWT'} | header)}.{encode(said)}"
        der = self._openssl("dgst", "-sha256", "-sign", self._private, text=text)
        return f"{text}.{encode(_integers(der))}"

    def jwk(self) -> dict:
        """The public half, as a token may bring it along."""
        der = self._openssl("pkey", "-in", self._private, "-pubout", "-outform", "DER")
        return {"kty": "EC", "crv": "P-256", "x": encode(der[-64:-32]), "y": encode(der[-32:])}

    def _openssl(self, *arguments: str | Path, text: str = "") -> bytes:
        command = ["openssl", *arguments]
        return subprocess.run(command, input=text.encode(), check=True, capture_output=True).stdout


def _integers(der: bytes) -> bytes:
    """The two integers of a DER signature, 32 bytes each, as JWS has them (RFC 7518, 3.4)."""
    numbers, at = b"", 2
    for _ in range(2):
        end = at + 2 + der[at + 1]
        numbers += der[at + 2 : end].lstrip(b"\0").rjust(32, b"\0")
        at = end
    return numbers
