"""Attacks on a hub that asks for tokens: each is refused as documented.

Beside them a good stream stays open, and after each attack it has received what was rightly
published, all of it, and nothing else.
"""

import json
import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from urllib.parse import quote

import httpx
import pytest

from guarded import AUDIENCE, ISSUER, Guarded, check_refused, token
from hub import Hub
from stream import Stream
from tokens import EcKey, bearer, claims, encode, sign

NDJSON = {"content-type": "application/x-ndjson"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
PROXY = "127.0.0.9"
THIEF = "127.0.0.2"
NEVER = 4_102_444_800


@pytest.fixture(scope="module")
def ec(tmp_path_factory: pytest.TempPathFactory) -> EcKey:
    """A key of which the hub knows the public half."""
    return EcKey(tmp_path_factory.mktemp("ec"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> EcKey:
    """A key that the hub does not know."""
    return EcKey(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def start_guarded(start_hub, ec, secret_file) -> Callable[..., Hub]:
    """Starts hubs that trust the secret and the public key."""

    def start(*options: str, **place: object) -> Hub:
        keys = ["--key-file", secret_file, "--key-file", ec.public]
        whose = ["--issuer", ISSUER, "--audience", AUDIENCE, "--require-exp"]
        return start_hub(*keys, *whose, *options, **place)

    return start


@pytest.fixture(scope="module")
def guarded(start_guarded) -> Guarded:
    """The hub that is attacked."""
    return Guarded(start_guarded("--public-figures=false", "--max-head-bytes", "64KiB"))


@pytest.fixture(autouse=True)
def good_stream(guarded: Guarded) -> Iterator[None]:
    """Goes on beside every attack."""
    yield
    guarded.check_undisturbed()


# Tokens


def good(**said: object) -> dict:
    """Claims that would open everything."""
    rights = {"publish": ["*"], "subscribe": ["*"], "operate": True}
    return claims("mallory", **{"iss": ISSUER, "aud": AUDIENCE} | rights | said)


def swap_header(token: str, **header: object) -> str:
    """The token under another header."""
    return ".".join([encode(header), *token.split(".")[1:]])


def cut(token: str, characters: int) -> str:
    return token[:-characters]


def spoil(token: str) -> str:
    """The token with another bit somewhere in the middle of its signature."""
    text, signature = token.rsplit(".", 1)
    other = "A" if signature[20] != "A" else "B"
    return f"{text}.{signature[:20]}{other}{signature[21:]}"


def with_signature(token: str, signature: bytes) -> str:
    return f"{token.rsplit('.', 1)[0]}.{encode(signature)}"


def now(seconds: int) -> int:
    return int(time.time()) + seconds


P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
SIGNATURE = "signature"
BAD_TOKENS = {
    # what: how (of the hub's key and a stranger's), a word of the detail
    "garbage": (lambda ec, other: "garbage", ""),
    "three dots": (lambda ec, other: "...", ""),
    "no algorithm": (lambda ec, other: swap_header(cut(sign(good()), 43), alg="none"), ""),
    "no algorithm, a good signature": (lambda ec, other: swap_header(sign(good()), alg="none"), ""),
    "no algorithm in other letters": (lambda ec, other: swap_header(cut(sign(good()), 43), alg="nOnE"), ""),
    "no member alg": (lambda ec, other: swap_header(sign(good()), typ="JWT"), ""),
    "a list of algorithms": (lambda ec, other: swap_header(sign(good()), alg=["none", "HS256"]), ""),
    "the public key as a secret": (lambda ec, other: sign(good(), ec.public.read_bytes()), SIGNATURE),
    "the public key as a secret, without its line end": (lambda ec, other: sign(good(), ec.public.read_bytes().strip()), SIGNATURE),
    "the public key as a secret of HS512": (lambda ec, other: sign(good(), ec.public.read_bytes(), "sha512", alg="HS512"), ""),
    "an HMAC that is called ES256": (lambda ec, other: sign(good(), alg="ES256"), ""),
    "the secret with another hash": (lambda ec, other: sign(good(), hash_name="sha384", alg="HS384"), ""),
    "an empty secret": (lambda ec, other: sign(good(), ""), SIGNATURE),
    "the id of a key that is a path": (lambda ec, other: sign(good(), "", kid="../../../../../../dev/null"), ""),
    "the id of a key that is a URL": (lambda ec, other: sign(good(), "", kid="https://evil.example/jwks"), ""),
    "the id of a key that is a query": (lambda ec, other: sign(good(), "a", kid="' UNION SELECT 'a"), ""),
    "the id of a key with a zero byte": (lambda ec, other: sign(good(), "", kid="\0"), ""),
    "the id of a key that is a list": (lambda ec, other: sign(good(), "", kid=["a"]), ""),
    "the id of a key that is long": (lambda ec, other: sign(good(), "", kid="k" * 5000), ""),
    "a key of its own by URL": (lambda ec, other: other.sign(good(), jku="http://127.0.0.1:9/jwks"), SIGNATURE),
    "a key of its own by certificate": (lambda ec, other: other.sign(good(), x5u="http://127.0.0.1:9/x"), SIGNATURE),
    "a key of its own inside": (lambda ec, other: other.sign(good(), jwk=other.jwk()), SIGNATURE),
    "a key of a stranger": (lambda ec, other: other.sign(good()), SIGNATURE),
    "no signature": (lambda ec, other: cut(sign(good()), 43), ""),
    "no signature and no dot": (lambda ec, other: cut(sign(good()), 44), ""),
    "half a signature": (lambda ec, other: cut(sign(good()), 20), ""),
    "another signature": (lambda ec, other: spoil(sign(good())), SIGNATURE),
    "a signature of other claims": (lambda ec, other: f"{sign(good()).rsplit('.', 1)[0]}.{token().rsplit('.', 1)[1]}", SIGNATURE),
    "a signature of zeros": (lambda ec, other: with_signature(ec.sign(good()), bytes(64)), SIGNATURE),
    "a signature of the curve's order": (lambda ec, other: with_signature(ec.sign(good()), P256_ORDER.to_bytes(32) * 2), SIGNATURE),
    "an empty signature by the curve": (lambda ec, other: with_signature(ec.sign(good()), b""), ""),
    "a signature in DER": (lambda ec, other: with_signature(ec.sign(good()), bytes([0x30, 6, 2, 1, 1, 2, 1, 1])), SIGNATURE),
    "something behind the signature": (lambda ec, other: sign(good()) + ".x", ""),
    "padding": (lambda ec, other: sign(good()) + "=", ""),
    "five parts": (lambda ec, other: ".".join([encode({"alg": "dir", "enc": "A256GCM"}), "", "a", "b", "c"]), ""),
    "an extension that has to be known": (lambda ec, other: sign(good(), crit=["exp"]), ""),
    "claims that are not encoded": (lambda ec, other: sign(good(), b64=False, crit=["b64"]), ""),
    "a long token": (lambda ec, other: sign(good(long="x" * 9_000)), "8192"),
    "an expired one": (lambda ec, other: sign(good(exp=now(-1))), "expired"),
    "one that expired in 1970": (lambda ec, other: sign(good(exp=0)), "expired"),
    "one that expired before 1970": (lambda ec, other: sign(good(exp=-1)), ""),
    "an expiry in words": (lambda ec, other: sign(good(exp="never")), "claims"),
    "no expiry": (lambda ec, other: sign(good(exp=None)), "exp"),
    "one that does not hold yet": (lambda ec, other: sign(good(nbf=now(600))), "from"),
    "another issuer": (lambda ec, other: sign(good(iss="https://evil.example")), "issuer"),
    "no issuer": (lambda ec, other: sign(good(iss=None)), "issuer"),
    "an issuer with a slash": (lambda ec, other: sign(good(iss=f"{ISSUER}/")), "issuer"),
    "another audience": (lambda ec, other: sign(good(aud="another hub")), "aud"),
    "other audiences": (lambda ec, other: sign(good(aud=["a", "b"])), "aud"),
    "no audience": (lambda ec, other: sign(good(aud=None)), "aud"),
    "rights that are no list": (lambda ec, other: sign(good(tidings={"subscribe": "*"})), "claims"),
    "a right that is no selector": (lambda ec, other: sign(good(tidings={"subscribe": ["a\nb"]})), "claims"),
    "a revoked one": (lambda ec, other: sign(good(jti="stolen")), "revoked"),
}  # fmt: skip

GOOD_TOKENS = {
    "by the secret": lambda ec: sign(good()),
    "by the curve": lambda ec: ec.sign(good()),
    "with the id of no key": lambda ec: sign(good(), kid="a name of its own"),
    "for several": lambda ec: sign(good(aud=["another hub", AUDIENCE])),
}

# A private event that a bad token would publish, and other routes that it would open.
USES = {
    "to subscribe": ("GET", "/events?topic=a&mode=poll&wait=0", {}),
    "to publish": ("POST", "/events", {"json": {"topic": "a", "data": "forged"}}),
    "for a ticket": ("POST", "/tickets", {"json": {"topics": ["a"]}}),
    "to operate": ("GET", "/connections", {}),
    "to revoke": ("POST", "/revocations", {"json": {"tokenId": "a", "expiresAt": NEVER}}),
    "for figures": ("GET", "/metrics", {}),
    "for more figures": ("GET", "/stats", {}),
}
PLACES = {
    "header": lambda token: {"headers": bearer(token)},
    "query": lambda token: {"params": {"access_token": token}},
    "cookie": lambda token: {"headers": {"cookie": f"tidings_token={token}"}},
}


@pytest.mark.parametrize("what", BAD_TOKENS)
def test_bad_token_is_refused_wherever_it_stands(guarded, ec, stranger, what):
    make, word = BAD_TOKENS[what]
    guarded.revoke("stolen")
    bad = make(ec, stranger)
    for method, path, body in USES.values():
        for name, place in PLACES.items():
            if name == "header" or method == "GET":
                request = httpx.Request("GET", guarded.hub.url + path).url.params
                sent = body | place(bad)
                if "params" in sent:
                    sent["params"] = dict(request) | sent["params"]
                answer = guarded.client.request(method, path, **sent)
                check_refused(answer, 401, "invalid-token", word)


@pytest.mark.parametrize("what", GOOD_TOKENS)
def test_good_token_is_accepted_wherever_it_stands(guarded, ec, what):
    """Else the refusals above would prove nothing."""
    for place in PLACES.values():
        answer = guarded.client.get("/metrics", **place(GOOD_TOKENS[what](ec)))
        assert answer.status_code == 200, answer.text


# Requests


MAY_ALL = {"publish": ["*"], "subscribe": ["*"]}
MAY_ONE = {"publish": ["rooms/{id}"], "subscribe": ["rooms/{id}"]}
EVENT = {"topic": "rooms/1", "data": "forged"}
LINES = b'{"topic":"rooms/1"}\n{"topic":"users/ann"}\n'


def publish(token: str | None = None, **headers: str) -> dict:
    """A request to publish, with headers that name `cookie` and others."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return {"method": "POST", "url": "/events", "json": EVENT, "headers": given | (bearer(token) if token else {})}  # fmt: skip


def in_cookie(**headers: str) -> dict:
    return publish(cookie=f"tidings_token={token('ann', **MAY_ALL)}", **headers)


def read(query: str, *headers: tuple[str, str]) -> dict:
    return {"method": "GET", "url": f"/events?topic=a&mode=poll&wait=0{query}", "headers": [*headers]}


def header(token: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {token}")


REQUESTS = {
    # what: request, status, type, words of the detail
    "two Authorization headers": (lambda: read("", header(token("ann")), header(token("ann"))), 400, "ambiguous-credentials", []),
    "two Authorization headers, one of them good": (lambda: read("", header("garbage"), header(token("ann"))), 400, "ambiguous-credentials", []),
    "another scheme before a token": (lambda: read("", ("authorization", "Basic dTpw"), header(token("ann"))), 400, "ambiguous-credentials", []),
    "two parameters": (lambda: read(f"&access_token={token('ann')}&access_token={token('bob')}"), 400, "ambiguous-credentials", []),
    "two cookies": (lambda: read("", ("cookie", f"tidings_token={token('ann')}"), ("cookie", f"tidings_token={token('bob')}")), 400, "ambiguous-credentials", []),
    "garbage above a good parameter": (lambda: read(f"&access_token={token('ann')}", header("garbage")), 401, "invalid-token", []),
    "garbage above a good cookie": (lambda: read("&access_token=garbage", ("cookie", f"tidings_token={token('ann')}")), 401, "invalid-token", []),
    "an empty header above a good parameter": (lambda: read(f"&access_token={token('ann')}", ("authorization", "Bearer")), 401, "invalid-token", []),
    "a parameter to publish": (lambda: publish() | {"url": f"/events?access_token={token('ann', **MAY_ALL)}"}, 401, "missing-token", []),
    "nothing to publish": (lambda: publish(), 401, "missing-token", []),
    "nothing to operate": (lambda: {"method": "GET", "url": "/connections"}, 401, "missing-token", []),
    "nothing for figures": (lambda: {"method": "GET", "url": "/stats"}, 401, "missing-token", []),
    "a cookie without Origin": (lambda: in_cookie(), 403, "cross-site", []),
    "a cookie and a foreign Origin": (lambda: in_cookie(origin="https://evil.example"), 403, "cross-site", []),
    "a cookie and the Origin null": (lambda: in_cookie(origin="null"), 403, "cross-site", []),
    "a cookie and a foreign Origin that says it is not": (lambda: in_cookie(origin="https://evil.example", sec_fetch_site="same-origin"), 403, "cross-site", []),
    "a cookie by a link": (lambda: in_cookie(sec_fetch_site="none"), 403, "cross-site", []),
    "a cookie from a neighbour": (lambda: in_cookie(sec_fetch_site="same-site"), 403, "cross-site", []),
    "a cookie for a ticket": (lambda: in_cookie() | {"url": "/tickets", "json": {"topics": ["a"]}}, 403, "cross-site", []),
    "a cookie to close": (lambda: {"method": "DELETE", "url": "/connections?user=ann", "headers": {"cookie": f"tidings_token={token('root', operate=True)}"}}, 403, "cross-site", []),
    "a token that says nothing of publishing": (lambda: publish(token("ann", subscribe=["*"])), 403, "missing-right", ["publish"]),
    "a token that may publish nothing": (lambda: publish(token("ann", publish=[])), 403, "missing-right", ["publish to rooms/1"]),
    "another's topic": (lambda: publish(token("ann", **MAY_ONE)) | {"json": EVENT | {"topic": "users/ann"}}, 403, "missing-right", ["publish to users/ann"]),
    "another's topic beside one's own": (lambda: publish(token("ann", **MAY_ONE)) | {"json": EVENT | {"topic": ["rooms/1", "users/ann"]}}, 403, "missing-right", ["publish to users/ann"]),
    "another's topic in an array": (lambda: publish(token("ann", **MAY_ONE)) | {"json": [EVENT, EVENT | {"topic": "users/ann"}]}, 403, "missing-right", ["publish to users/ann"]),
    "another's topic in a line": (lambda: {"method": "POST", "url": "/events", "content": LINES, "headers": NDJSON | bearer(token("ann", **MAY_ONE))}, 403, "missing-right", ["publish to users/ann"]),
    "another's topic in a form": (lambda: {"method": "POST", "url": "/events", "content": b"topic=rooms/1&topic=users/ann", "headers": FORM | bearer(token("ann", **MAY_ONE))}, 403, "missing-right", ["publish to users/ann"]),
    "a topic deeper than the right": (lambda: publish(token("ann", **MAY_ONE)) | {"json": EVENT | {"topic": "rooms/1/secret"}}, 403, "missing-right", ["publish to rooms/1/secret"]),
    "a topic that encodes a right": (lambda: publish(token("ann", **MAY_ONE)) | {"json": EVENT | {"topic": "rooms%2F1"}}, 403, "missing-right", ["publish to rooms%2F1"]),
    "a right to subscribe, used to publish": (lambda: publish(token("ann", subscribe=["rooms/1"], publish=["rooms/2"])), 403, "missing-right", ["publish to rooms/1"]),
    "all rights but that to operate": (lambda: {"method": "GET", "url": "/connections", "headers": bearer(token("ann", **MAY_ALL))}, 403, "missing-right", ["operate"]),
    "closing without the right": (lambda: {"method": "DELETE", "url": "/connections?user=witness", "headers": bearer(token("ann", **MAY_ALL))}, 403, "missing-right", ["operate"]),
    "revoking without the right": (lambda: {"method": "POST", "url": "/revocations", "json": {"tokenId": "a", "expiresAt": NEVER}, "headers": bearer(token("ann", **MAY_ALL))}, 403, "missing-right", ["operate"]),
    "figures without the right": (lambda: {"method": "GET", "url": "/metrics", "headers": bearer(token("ann", **MAY_ALL))}, 403, "missing-right", ["operate"]),
    "a right to operate, used to publish": (lambda: publish(token("root", operate=True)), 403, "missing-right", ["publish"]),
    "a right to operate in words": (lambda: {"method": "GET", "url": "/connections", "headers": bearer(token("ann", tidings={"operate": "true"}))}, 401, "invalid-token", ["claims"]),
}  # fmt: skip


@pytest.mark.parametrize("what", REQUESTS)
def test_request_is_refused(guarded, what):
    make, status, slug, words = REQUESTS[what]
    check_refused(guarded.client.request(**make()), status, slug, *words)


def test_page_of_the_hub_may_use_its_cookie(guarded):
    """Else the refusals of cookies would prove nothing."""
    answer = guarded.client.request(**in_cookie(origin=guarded.hub.url))
    assert answer.status_code == 200, answer.text
    guarded.expect(answer.json()["id"], None, "forged")


def test_origins_that_are_all_listed_may_not_use_a_cookie(start_guarded):
    hub = start_guarded("--cors-origins", "*")
    for origin in ("https://evil.example", "*"):
        answer = hub.client.request(**in_cookie(origin=origin))
        check_refused(answer, 403, "cross-site")
        assert answer.headers.get("access-control-allow-credentials") is None


# Addresses


def from_address(hub: Hub, address: str) -> httpx.Client:
    """A client that comes from another address of the loopback interface."""
    transport = httpx.HTTPTransport(local_address=address)
    return httpx.Client(base_url=hub.url, transport=transport, timeout=10)


FORWARDED = [
    # whose word, X-Forwarded-For, whether it is the client whose only stream is open
    ("127.0.0.1", None, True),
    ("127.0.0.1", "198.51.100.7", True),
    ("127.0.0.1", "127.0.0.9", True),
    ("127.0.0.1", "198.51.100.7, 127.0.0.9", True),
    (THIEF, "127.0.0.1", False),
    (PROXY, "127.0.0.1", True),
    (PROXY, "198.51.100.7, 127.0.0.1", True),
    (PROXY, "198.51.100.7,127.0.0.1, 127.0.0.9", True),
    (PROXY, "127.0.0.1, 198.51.100.7", False),
    (PROXY, "127.0.0.1:8080", True),
    (PROXY, "198.51.100.7", False),
]


def test_address_cannot_be_forged_to_escape_its_limit(start_guarded):
    hub = start_guarded("--max-connections-per-ip", "1", "--trusted-proxies", f"{PROXY}/32")
    query = "/events?topic=a&mode=poll&wait=0"
    with Stream(hub.port, topic="a"):
        for peer, forwarded, is_limited in FORWARDED:
            headers = {"accept": "application/json", "forwarded": "for=203.0.113.5"}
            if forwarded is not None:
                headers["x-forwarded-for"] = forwarded
            with from_address(hub, peer) as client:
                answer = client.get(query, headers=headers)
            label = f"{peer} {forwarded}"
            assert answer.status_code == (503 if is_limited else 200), label
            if is_limited:
                check_refused(answer, 503, "too-many-connections")


# Tickets


class Held:
    """A ticket of Ann's, who may read `users/ann`."""

    def __init__(self, guarded: Guarded, **wanted: object):
        self.guarded = guarded
        ann = bearer(token("ann", subscribe=["users/ann"], jti="anns"))
        self.id = guarded.ticket(ann, **{"topics": ["users/ann"]} | wanted)

    def poll(self, client: httpx.Client | None = None, **query: object) -> httpx.Response:
        params = {"ticket": self.id, "mode": "poll", "wait": 0} | query
        accept = {"accept": "application/json"}
        return (client or self.guarded.client).get("/events", params=params, headers=accept)

    def stream(self, **query: object) -> Stream:
        return Stream(self.guarded.hub.port, ticket=self.id, **query)


def reuse(guarded: Guarded) -> httpx.Response:
    held = Held(guarded)
    assert held.poll().status_code == 200
    return held.poll()


def reuse_beside(guarded: Guarded) -> httpx.Response:
    held = Held(guarded)
    with held.stream():
        return held.poll()


def steal(guarded: Guarded) -> httpx.Response:
    held = Held(guarded)
    with held.stream() as stream, from_address(guarded.hub, THIEF) as thief:
        seen = guarded.publish("users/ann", "secret", private=True)
        assert stream.event().id == seen
        return held.poll(thief, lastEventId=stream.begins_after)


def go_back(guarded: Guarded) -> httpx.Response:
    before = guarded.publish("users/ann", "before", private=True)
    guarded.publish("users/ann", "between", private=True)
    held = Held(guarded)
    with held.stream():
        return held.poll(lastEventId=before)


def go_on_with_a_made_up_id(guarded: Guarded) -> httpx.Response:
    held = Held(guarded)
    with held.stream():
        return held.poll(lastEventId="0000000000-1")


def third_stream(guarded: Guarded) -> httpx.Response:
    held = Held(guarded)
    with held.stream() as first, held.stream(lastEventId=first.response.headers["last-event-id"]):
        return held.poll(lastEventId=first.response.headers["last-event-id"])


def expire(guarded: Guarded) -> httpx.Response:
    unopened, held = Held(guarded, lifetime=1), Held(guarded, lifetime=1)
    with held.stream() as stream:
        last = stream.event()
        assert (last.event, json.loads(last.data)) == ("tidings.expired", {"reason": "expired"})
        with pytest.raises(EOFError):
            stream.event()
        check_refused(held.poll(lastEventId=stream.begins_after), 401, "invalid-ticket")
    return unopened.poll()


def revoke(guarded: Guarded) -> httpx.Response:
    ann = bearer(token("ann", subscribe=["users/ann"], jti="lost"))
    opened, unopened = (guarded.ticket(ann, topics=["users/ann"]) for _ in range(2))
    with Stream(guarded.hub.port, ticket=opened) as stream:
        assert guarded.revoke("lost") == 1
        last = stream.event()
        assert (last.event, json.loads(last.data)) == ("tidings.expired", {"reason": "revoked"})
        answer = guarded.poll(ticket=opened, lastEventId=stream.begins_after)
        check_refused(answer, 401, "invalid-ticket")
    return guarded.poll(ticket=unopened)


def for_something_else(method: str, path: str, **body: object) -> Callable:
    def attack(guarded: Guarded) -> httpx.Response:
        held = Held(guarded)
        answer = guarded.client.request(method, path, params={"ticket": held.id}, **body)
        assert held.poll().status_code == 200
        return answer

    return attack


def with_more(**query: object) -> Callable:
    def attack(guarded: Guarded) -> httpx.Response:
        held = Held(guarded)
        answer = held.poll(**query)
        assert held.poll().status_code == 200
        return answer

    return attack


def guess(id: str) -> Callable:
    return lambda guarded: guarded.poll(ticket=id)


TICKETS = {
    # what: how, status, type
    "reuse": (reuse, 401, "invalid-ticket"),
    "reuse while it is open": (reuse_beside, 401, "invalid-ticket"),
    "theft": (steal, 401, "invalid-ticket"),
    "an id from before it began": (go_back, 401, "invalid-ticket"),
    "an id that was made up": (go_on_with_a_made_up_id, 401, "invalid-ticket"),
    "a third stream": (third_stream, 401, "invalid-ticket"),
    "after its time": (expire, 401, "invalid-ticket"),
    "after its token was revoked": (revoke, 401, "invalid-ticket"),
    "other topics": (with_more(topic="users/bob"), 400, "invalid-parameter"),
    "other events": (with_more(event="a"), 400, "invalid-parameter"),
    "more of the past": (with_more(last="earliest"), 400, "invalid-parameter"),
    "a guess": (guess("A" * 24), 401, "invalid-ticket"),
    "an empty one": (guess(""), 401, "invalid-ticket"),
    "two": (lambda guarded: guarded.poll(ticket=[Held(guarded).id, Held(guarded).id]), 401, "invalid-ticket"),
    "to publish": (for_something_else("POST", "/events", json=EVENT), 401, "missing-token"),
    "to figures": (for_something_else("GET", "/metrics"), 401, "missing-token"),
    "to operate": (for_something_else("GET", "/connections"), 401, "missing-token"),
    "as a token": (lambda guarded: guarded.poll(bearer(Held(guarded).id), topic="users/ann"), 401, "invalid-token"),
}  # fmt: skip


@pytest.mark.parametrize("what", TICKETS)
def test_ticket_is_worthless_for_anything_else(guarded, what):
    attack, status, slug = TICKETS[what]
    check_refused(attack(guarded), status, slug)


def test_ticket_goes_on_where_it_was(guarded):
    """Else the refusals of tickets would prove nothing."""
    held = Held(guarded)
    with held.stream() as stream:
        seen = guarded.publish("users/ann", "first", private=True)
        assert stream.event().id == seen
        assert stream.begins_after == stream.response.headers["last-event-id"]
    missed = guarded.publish("users/ann", "second", private=True)
    with held.stream(lastEventId=seen) as stream:
        assert stream.event().id == missed


def send_slowly(guarded: Guarded, path: str, token: str, body: bytes) -> Callable[[], int]:
    """Sends a request up to the last byte of its body; what is returned sends that, and answers
    with the status."""
    line = socket.create_connection(("127.0.0.1", guarded.hub.port), timeout=10)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
        "expect: 100-continue\r\n\r\n"
    )
    line.sendall(head.encode())
    # The hub asks for the body once it has looked at the token.
    assert line.recv(1000).startswith(b"HTTP/1.1 100")
    line.sendall(body[:-1])

    def finish() -> int:
        with line:
            line.sendall(body[-1:])
            response = HTTPResponse(line)
            response.begin()
            return response.status

    return finish


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/events", EVENT),
        ("/events", [EVENT]),
        ("/tickets", {"topics": ["users/ann"]}),
        ("/revocations", {"tokenId": "victim", "expiresAt": NEVER}),
    ],
    ids=["event", "array", "ticket", "revocation"],
)
def test_body_that_outlasts_its_token_does_nothing(guarded, path, body):
    token_id = f"outlasted {body}"
    shut_out = token("ann", jti=token_id, operate=True, **MAY_ALL)
    finish = send_slowly(guarded, path, shut_out, json.dumps(body).encode())
    guarded.revoke(token_id)
    assert finish() == 401


# What belongs to others


PRIVATE = "for Ann alone"
REPLAYS = {
    # what: query, of an id before and an id of Ann's events and her cursor
    "by the id before": lambda before, own, cursor: {"topic": "users/ann", "lastEventId": before},
    "by an id of hers": lambda before, own, cursor: {"topic": "users/ann", "lastEventId": own},
    "by last": lambda before, own, cursor: {"topic": "users/ann", "last": 10},
    "by all there is": lambda before, own, cursor: {"topic": "users/ann", "last": "earliest"},
    "by a pattern": lambda before, own, cursor: {"topic": "users/{id}", "last": "earliest"},
    "by everything": lambda before, own, cursor: {"topic": "*", "last": "earliest"},
    "by a pattern and her topic": lambda before, own, cursor: {"topic": ["users/{id}", "users/ann", "*"], "lastEventId": before},
    "by its other topic": lambda before, own, cursor: {"topic": "groups/1", "last": "earliest"},
    "by type": lambda before, own, cursor: {"topic": "*", "event": "secret", "last": "earliest"},
    "by her cursor": lambda before, own, cursor: {"topic": "users/{id}", "lastEventId": cursor},
    "conflated": lambda before, own, cursor: {"topic": "*", "conflate": 1, "last": "earliest"},
    "conflated by id": lambda before, own, cursor: {"topic": "users/{id}", "conflate": 1, "lastEventId": before},
    "by an id of nowhere": lambda before, own, cursor: {"topic": "users/ann", "lastEventId": "0000000000-1"},
    "by garbage": lambda before, own, cursor: {"topic": "users/ann", "lastEventId": "garbage"},
}  # fmt: skip



def as_ticket(query: dict) -> dict:
    """The query as the JSON of a ticket."""
    names = {"topic": "topics", "event": "events"}
    wanted = {names.get(name, name): value for name, value in query.items()}
    lists = {name: [value] for name, value in wanted.items() if name in ("topics", "events") and isinstance(value, str)}  # fmt: skip
    return wanted | lists | ({"conflate": True} if "conflate" in query else {})


@pytest.mark.parametrize("what", REPLAYS)
def test_no_way_of_asking_gives_events_of_others(guarded, what):
    ann = bearer(token("ann", subscribe=["users/ann"]))
    strangers = {
        "Mallory": bearer(token("mallory", publish=["*"], subscribe=["users/mallory", "groups/2"])),
        "an operator": guarded.operator,
        "nobody": {},
    }
    secret = {"topic": ["users/ann", "groups/1"], "private": True, "event": "secret"}
    before = guarded.publish("other", "before")
    own = guarded.publish(data=f"{PRIVATE} 1", **secret)
    cursor = guarded.poll(ann, topic="users/ann", last=2).json()["lastEventId"]
    guarded.publish(data=f"{PRIVATE} 2", **secret)
    query = REPLAYS[what](before, own, cursor)
    topics = [query["topic"]] if isinstance(query["topic"], str) else query["topic"]
    for name, who in strangers.items():
        answers = [guarded.poll(who, **query)]
        if who:
            answers.append(guarded.poll(ticket=guarded.ticket(who, **as_ticket(query))))
        with Stream(guarded.hub.port, headers=who, **query | {"topic": ["end", *topics]}) as stream:
            guarded.publish(data=f"{PRIVATE}, live", **secret)
            end = guarded.publish("end", "end", event="secret")
            received = [stream.event()]
            while received[-1].id != end:
                received.append(stream.event())
        assert not any(PRIVATE in event.data for event in received), name
        for answer in answers:
            assert answer.status_code == 200, answer.text
            assert PRIVATE not in answer.text, name
    assert PRIVATE in guarded.poll(ann, **query).text


def test_end_of_a_private_topic_is_told_to_nobody_else(guarded):
    """Neither by 204 nor by `tidings.finished`, nor by what is said to who may not publish."""
    topic = "users/ann/job"
    ann = bearer(token("ann", subscribe=[topic]))
    mallory = bearer(token("mallory", subscribe=["users/mallory"], publish=["users/mallory"]))
    live = [Stream(guarded.hub.port, headers=who, topic=topic) for who in (ann, mallory, {})]
    last = guarded.publish(topic, "done", private=True, final=True)
    assert live[0].event().id == last
    assert live[0].event().event == "tidings.finished"
    for query in ({}, {"lastEventId": last}):
        assert guarded.poll(ann, topic=topic, **query).status_code == 204
        for who in (mallory, {}):
            answer = guarded.poll(who, topic=topic, **query)
            assert (answer.status_code, answer.json()["events"]) == (200, [])
    late = [
        Stream(guarded.hub.port, headers=who, topic=[topic], **query)
        for who in (mallory, {})
        for query in ({}, {"lastEventId": last}, {"last": "earliest"})
    ]
    # They see no end but that of the hub's patience, which is not now.
    guarded.check_undisturbed()
    for stream in (*live[1:], *late):
        stream.heartbeat()
        stream.close()
    event = {"topic": topic, "data": "more"}
    refused = guarded.client.post("/events", json=event, headers=mallory)
    check_refused(refused, 403, "missing-right", f"publish to {topic}")
    live[0].close()


@pytest.mark.parametrize("is_header", [False, True], ids=["field", "header"])
def test_key_of_one_user_does_not_take_that_of_another(guarded, is_header):
    def send(who: dict, data: str) -> str:
        event = {"topic": "rooms/keys", "data": data}
        key = {"idempotency-key": "squatted"} if is_header else {}
        body = event if is_header else event | {"key": f"squatted {is_header}"}
        answer = guarded.client.post("/events", json=body, headers=who | key)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    mallory, ann = (bearer(token(user, publish=["rooms/{id}"])) for user in ("mallory", "ann"))
    ids = [send(mallory, "squatted"), send(ann, "meant")]
    assert len(set(ids)) == 2
    assert [send(mallory, "again"), send(ann, "again")] == ids
    guarded.expect(ids[0], None, "squatted")
    guarded.expect(ids[1], None, "meant")


# Line ends


FORGERY = "forged: 1{0}{0}id: forged{0}event: forged{0}data: forged{0}{0}HTTP/1.1 200 Forged{0}"
ENDS = {"CR LF": "\r\n", "LF": "\n", "CR": "\r", "NUL": "\0"}


def as_json(field: str, path: str = "/events", **others: object) -> Callable[[str], dict]:
    def request(value: str) -> dict:
        body = EVENT | {field: value} if path == "/events" else others | {field: value}
        return {"method": "POST", "url": path, "json": body}

    return request


def as_form(field: str) -> Callable[[str], dict]:
    return lambda value: {"method": "POST", "url": "/events", "data": EVENT | {field: value}}


def as_line(field: str) -> Callable[[str], dict]:
    def request(value: str) -> dict:
        line = json.dumps(EVENT | {field: value}).encode()
        return {"method": "POST", "url": "/events", "content": line, "headers": NDJSON}

    return request


def as_query(name: str, path: str = "/events") -> Callable[[str], dict]:
    def request(value: str) -> dict:
        query = {"mode": "poll", "wait": "0"} if path == "/events" else {}
        if path == "/events" and name != "ticket":
            query["topic"] = "a"
        return {"method": "GET", "url": path, "params": query | {name: value}}

    return request


STRINGS = {
    # what: how, status, type
    "topic": (as_json("topic"), 400, "invalid-topic"),
    "topics": (lambda value: {"method": "POST", "url": "/events", "json": {"topic": ["a", value]}}, 400, "invalid-topic"),
    "event": (as_json("event"), 400, "invalid-event-type"),
    "key": (as_json("key"), 400, "invalid-key"),
    "id": (as_json("id"), 400, "unknown-field"),
    "data": (as_json("data"), 200, ""),
    "topic of a form": (as_form("topic"), 400, "invalid-topic"),
    "event of a form": (as_form("event"), 400, "invalid-event-type"),
    "key of a form": (as_form("key"), 400, "invalid-key"),
    "id of a form": (as_form("id"), 400, "unknown-field"),
    "retry of a form": (as_form("retry"), 400, "invalid-field"),
    "data of a form": (as_form("data"), 200, ""),
    "topic of a line": (as_line("topic"), 400, "invalid-topic"),
    "event of a line": (as_line("event"), 400, "invalid-event-type"),
    "key of a line": (as_line("key"), 400, "invalid-key"),
    "data of a line": (as_line("data"), 200, ""),
    "name of a field": (lambda value: {"method": "POST", "url": "/events", "json": EVENT | {value: 1}}, 400, "unknown-field"),
    "?topic": (as_query("topic"), 400, "invalid-selector"),
    "?event": (as_query("event"), 400, "invalid-event-type"),
    "?last": (as_query("last"), 400, "invalid-parameter"),
    "?wait": (as_query("wait"), 400, "invalid-parameter"),
    "?lastEventId": (as_query("lastEventId"), 200, ""),
    "?ticket": (as_query("ticket"), 401, "invalid-ticket"),
    "?access_token": (lambda value: as_query("access_token")(value) | {"headers": {"authorization": ""}}, 401, "invalid-token"),
    "topics of a ticket": (lambda value: {"method": "POST", "url": "/tickets", "json": {"topics": [value]}}, 400, "invalid-selector"),
    "events of a ticket": (lambda value: {"method": "POST", "url": "/tickets", "json": {"topics": ["a"], "events": [value]}}, 400, "invalid-event-type"),
    "lastEventId of a ticket": (as_json("lastEventId", "/tickets", topics=["a"]), 200, ""),
    "last of a ticket": (as_json("last", "/tickets", topics=["a"]), 400, "invalid-parameter"),
    "control of a ticket": (as_json("control", "/tickets", topics=["a"]), 400, "invalid-parameter"),
    "tokenId": (as_json("tokenId", "/revocations", expiresAt=NEVER), 200, ""),
    "issuer": (as_json("issuer", "/revocations", tokenId="nobody's", expiresAt=NEVER), 200, ""),
    "?user": (as_query("user", "/connections"), 200, ""),
    "?tokenId": (as_query("tokenId", "/connections"), 200, ""),
    "?after": (as_query("after", "/connections"), 400, "invalid-parameter"),
    "name of a parameter": (lambda value: as_query(value, "/connections")("1"), 400, "invalid-parameter"),
    "id of a connection": (lambda value: {"method": "DELETE", "url": f"/connections/{quote(value, safe='')}"}, 404, "not-found"),
    "path": (lambda value: {"method": "GET", "url": f"/{quote(value, safe='')}"}, 404, "not-found"),
}  # fmt: skip


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("what", STRINGS)
def test_line_end_forges_nothing(guarded, what, end):
    """The good stream, which is read line by line, sees the event as it was sent, or none."""
    make, status, slug = STRINGS[what]
    value = f"a{ENDS[end]}{FORGERY.format(ENDS[end])}"
    mallory = bearer(token("mallory", operate=True, **MAY_ALL))
    request = make(value)
    headers = mallory | {"accept": "application/json"} | request.get("headers", {})
    headers = {name: value for name, value in headers.items() if value}
    wire = raw(guarded.hub, httpx.Request(**request | {"url": guarded.hub.url + request["url"], "headers": headers}))  # fmt: skip
    head, _, body = wire.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0].startswith(b"HTTP/1.1 %d " % status), wire
    for line in wire.splitlines():
        for forged in (b"forged:", b"id: forged", b"event: forged", b"HTTP/1.1 200 Forged"):
            assert not line.startswith(forged), wire
    if slug:
        assert json.loads(body)["type"] == f"urn:tidings:problem:{slug}"
    elif request["url"] == "/events" and request["method"] == "POST":
        (id,) = re.findall(r'"([a-z0-9]+-[0-9]+)"', body.decode())
        guarded.expect(id, None, value)


def raw(hub: Hub, request: httpx.Request) -> bytes:
    """Everything that the hub answers on the wire."""
    head = f"{request.method} {request.url.raw_path.decode()} HTTP/1.1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    return raw_bytes(hub, f"{head}connection: close\r\n\r\n".encode() + request.read())


def raw_bytes(hub: Hub, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", hub.port), timeout=10) as line:
        line.sendall(request)
        answer = b""
        while part := line.recv(65_536):
            answer += part
    return answer


HEADERS = [
    "x-request-id", "last-event-id", "idempotency-key", "authorization", "cookie", "origin",
    "x-forwarded-for", "accept", "user-agent",
]  # fmt: skip


@pytest.mark.parametrize("byte", [b"\r", b"\0"], ids=["CR", "NUL"])
@pytest.mark.parametrize("name", HEADERS)
def test_line_end_in_a_header_is_refused(guarded, name, byte):
    request = b"GET /events?topic=a&mode=poll&wait=0 HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    request += b"%s: a%sforged: 1\r\n\r\n" % (name.encode(), byte)
    answer = raw_bytes(guarded.hub, request)
    assert answer.startswith(b"HTTP/1.1 400 "), answer
    assert b"forged" not in answer


SMUGGLED = {
    # what: head after the request line, and what follows it
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\nhello",
    "a length and chunks": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length in words": b"content-length: +5\r\n\r\nhello",
    "chunks that are not last": b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "a folded line": b"x-a: b\r\n c: d\r\ncontent-length: 0\r\n\r\n",
    "a space before the colon": b"content-length : 5\r\n\r\nhello",
}


@pytest.mark.parametrize("what", SMUGGLED)
def test_request_with_two_readings_hides_no_other(guarded, what):
    mallory = token("mallory", **MAY_ALL).encode()
    hidden = b"POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %s\r\ncontent-type: application/json\r\ncontent-length: 28\r\n\r\n" % mallory  # fmt: skip
    request = b"POST /events HTTP/1.1\r\nhost: 127.0.0.1\r\n" + SMUGGLED[what] + hidden + b'{"topic":"a","data":"hidden"}'  # fmt: skip
    answer = raw_bytes(guarded.hub, request)
    assert not any(line.startswith(b"HTTP/1.1 2") for line in answer.splitlines()), answer
    assert b'"id"' not in answer


# Floods


def test_giant_cookies_are_refused(guarded):
    for cookies in ([b"a=" + b"x" * 66_000], [b"c%d=%s" % (n, b"x" * 1_000) for n in range(80)]):
        head = b"GET /events?topic=a HTTP/1.1\r\nhost: 127.0.0.1\r\n"
        head += b"".join(b"cookie: %s\r\n" % cookie for cookie in cookies)
        with socket.create_connection(("127.0.0.1", guarded.hub.port), timeout=10) as line:
            line.sendall(head + b"\r\n")
            assert line.recv(12) == b"HTTP/1.1 431"


def test_half_requests_make_room_for_whole_ones(start_guarded):
    """Many more connections that never end their heads than the hub lets wait."""
    hub = start_guarded("--max-waiting", "64", "--head-timeout", "5m")
    guarded = Guarded(hub)
    slow = []
    for number in range(300):
        line = socket.create_connection(("127.0.0.1", hub.port), timeout=20)
        line.sendall(b"GET /events?topic=a HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
        slow.append(line)
        if number % 50 == 0:
            guarded.check_undisturbed()
    with httpx.Client(base_url=hub.url, timeout=10) as newcomer:
        assert newcomer.get("/health/live").status_code == 200
    # Those that have waited longest had to go.
    for line in slow[:200]:
        try:
            assert line.recv(1) == b""
        except ConnectionResetError:
            pass
    for line in slow:
        line.close()
    guarded.check_undisturbed()
    guarded.witness.close()


BAD_TOKENS_COUNT = 100_000
BAD_TOKENS_BATCH = 250


@pytest.mark.timeout(300)
def test_many_bad_tokens_admit_nobody(guarded, figure):
    """Each is another one, so that none is refused by memory; the good stream goes on meanwhile."""
    headers = [encode({"alg": name, "typ": "JWT"}) for name in ("HS256", "ES256")]
    counts = {"refused": 0, "other": 0}
    counted = threading.Lock()

    def flood(seed: int, count: int) -> None:
        dice = random.Random(seed)
        with socket.create_connection(("127.0.0.1", guarded.hub.port), timeout=60) as line:
            answers = line.makefile("rb")
            for begin in range(0, count, BAD_TOKENS_BATCH):
                line.sendall(b"".join(bad_request(dice, n) for n in range(BAD_TOKENS_BATCH)))
                statuses = [read_status(answers) for _ in range(BAD_TOKENS_BATCH)]
                with counted:
                    counts["refused"] += statuses.count(401)
                    counts["other"] += len(statuses) - statuses.count(401)
                assert begin < count

    def bad_request(dice: random.Random, number: int) -> bytes:
        signature = encode(dice.randbytes(64 if number % 2 else 32))
        bad = f"{headers[number % 2]}.{encode(good(jti=str(dice.random())))}.{signature}"
        path = ("/events?topic=a", "/events?topic=*&mode=poll", "/connections", "/metrics")
        return f"GET {path[number // 2 % 4]} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {bad}\r\n\r\n".encode()  # fmt: skip

    threads = [
        threading.Thread(target=flood, args=(seed, BAD_TOKENS_COUNT // 4)) for seed in range(4)
    ]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        guarded.check_undisturbed()
    took_s = time.monotonic() - began
    figure(f"{BAD_TOKENS_COUNT} bad tokens refused in {took_s:.1f} s")
    assert counts == {"refused": BAD_TOKENS_COUNT, "other": 0}
    assert took_s < 120


def read_status(answers) -> int:
    """Reads one answer with a length."""
    status = int(answers.readline().split()[1])
    length = 0
    while (line := answers.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    answers.read(length)
    return status
