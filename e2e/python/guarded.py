"""A hub that asks for tokens, and a good stream beside whatever is done to it."""

import re

import httpx

from hub import Hub
from stream import Stream
from tokens import bearer, claims, sign

ISSUER = "https://issuer.example"
AUDIENCE = "hub"
POLL = {"mode": "poll", "wait": 0}


def token(user: str | None = None, **said: object) -> str:
    """A token that the hub accepts, unless `said` makes it another."""
    return sign(claims(user, **{"iss": ISSUER, "aud": AUDIENCE} | said))


class Guarded:
    """A hub with keys. A witness reads all of its events, so that none is lost or slipped in."""

    def __init__(self, hub: Hub):
        self.hub = hub
        self.client = hub.client
        self.publisher = bearer(token("backend", publish=["*"]))
        self.operator = bearer(token("operator", operate=True))
        reader = bearer(token("witness", subscribe=["*"]))
        self.witness = Stream(hub.port, headers=reader, topic="*")
        self._published: list[tuple] = []

    def publish(self, topic: str | list[str], data: str, **fields: object) -> str:
        """Publishes as one who may, and returns the id."""
        body = {"topic": topic, "data": data, **fields}
        answer = self.client.post("/events", json=body, headers=self.publisher)
        assert answer.status_code == 200, answer.text
        self.expect(answer.json()["id"], fields.get("event"), data)
        return answer.json()["id"]

    def expect(self, id: str, event: str | None, data: str) -> None:
        """Tells the witness what was rightly published. Each line end of data is one `\\n`."""
        self._published.append((id, event, re.sub("\r\n|\r", "\n", data)))

    def check_undisturbed(self) -> None:
        """The witness has received what was rightly published since the last time, and no more."""
        self.publish("marker", "undisturbed", private=True)
        expected, self._published = self._published, []
        received = []
        while not received or received[-1] != expected[-1]:
            received.append(tuple(self.witness.event()[:3]))
        assert received == expected

    def poll(self, headers: dict | None = None, **query: object) -> httpx.Response:
        """What is kept, without waiting."""
        accept = {"accept": "application/json"}
        return self.client.get("/events", params=POLL | query, headers=accept | (headers or {}))

    def ticket(self, headers: dict, **wanted: object) -> str:
        """The id of a new ticket."""
        answer = self.client.post("/tickets", json=wanted, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["url"].removeprefix("/events?ticket=")

    def revoke(self, token_id: str, expires_at: int = 4_102_444_800) -> int:
        """Blocks a token id, and returns how many streams that closed."""
        body = {"tokenId": token_id, "expiresAt": expires_at}
        answer = self.client.post("/revocations", json=body, headers=self.operator)
        assert answer.status_code == 200, answer.text
        return answer.json()["closed"]


def check_refused(answer: httpx.Response, status: int, slug: str, *words: str) -> None:
    """The answer is a problem of this status and type, with these words in its detail."""
    assert answer.status_code == status, answer.text
    problem = answer.json()
    assert problem["type"] == f"urn:tidings:problem:{slug}", problem
    for word in words:
        assert word in problem["detail"], problem
    challenge = answer.headers.get("www-authenticate", "")
    asks = status == 401 or slug in ("ambiguous-credentials", "missing-right")
    assert challenge.startswith("Bearer") == asks, challenge
