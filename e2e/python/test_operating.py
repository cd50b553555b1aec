"""What operators see and do, and what others are told: through the routes of a hub with a key."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from guarded import ISSUER, Guarded, check_refused, token
from stream import Stream
from tokens import bearer

NEVER = 4_102_444_800


@pytest.fixture(scope="module")
def start_guarded(start_hub, secret_file) -> Callable[..., Guarded]:
    """Starts hubs that trust the secret."""

    def start(*options: str, **place: object) -> Guarded:
        return Guarded(start_hub("--key-file", secret_file, *options, **place))

    return start


@pytest.fixture(scope="module")
def guarded(start_guarded) -> Guarded:
    return start_guarded("--public-figures=false")


@pytest.fixture(autouse=True)
def good_stream(guarded: Guarded) -> Iterator[None]:
    """Goes on whoever else is sent away."""
    yield
    guarded.check_undisturbed()


def listed(guarded: Guarded, **query: object) -> dict:
    answer = guarded.client.get("/connections", params=query, headers=guarded.operator)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


def open_stream(guarded: Guarded, topic: str, user: str, **said: object) -> Stream:
    return Stream(guarded.hub.port, headers=bearer(token(user, **said)), topic=topic)


def check_ended(stream: Stream, reason: str) -> None:
    """The stream says why it ends, and ends."""
    last = stream.event()
    assert (last.id, last.event, json.loads(last.data)) == (None, "tidings.expired", {"reason": reason})  # fmt: skip
    with pytest.raises(EOFError):
        stream.event()
    stream.close()


def test_list_has_each_connection_once_over_all_pages(guarded, topic):
    streams = [
        open_stream(guarded, topic, f"user{number % 3}", jti=f"id{number}") for number in range(20)
    ]
    pages, after = [], {}
    while after is not None:
        page = listed(guarded, limit=3, **after)
        pages.append(page["connections"])
        after = {"after": page["next"]} if page["next"] is not None else None
    assert all(len(page) <= 3 for page in pages)
    items = [item for page in pages for item in page if item["topics"] == [topic]]
    assert sorted(item["tokenId"] for item in items) == sorted(f"id{n}" for n in range(20))
    assert len({item["id"] for page in pages for item in page}) == sum(map(len, pages))
    for item in items:
        assert item["user"] == f"user{int(item['tokenId'].removeprefix('id')) % 3}"
        assert (item["issuer"], item["ip"]) == (ISSUER, "127.0.0.1")
    for stream in streams:
        stream.close()


def test_list_tells_of_a_user_or_a_token_alone(guarded, topic):
    wanted = open_stream(guarded, topic, "listed", jti="listed 1")
    others = [
        open_stream(guarded, topic, "listed", jti="listed 2"),
        open_stream(guarded, topic, "other", jti="listed 3"),
        open_stream(guarded, topic, "listed", jti="listed 1", iss="https://other.example"),
        Stream(guarded.hub.port, topic=topic),
    ]
    issuer = {"issuer": ISSUER}
    for query, expected in [
        ({"user": "listed"}, 3),
        ({"user": "listed"} | issuer, 2),
        ({"tokenId": "listed 1"}, 2),
        ({"tokenId": "listed 1"} | issuer, 1),
        ({"user": "nobody"}, 0),
        ({"user": ""}, 0),
    ]:
        assert len(listed(guarded, **query)["connections"]) == expected, query
    for stream in (wanted, *others):
        stream.close()


CLOSES = [
    # query, which of the streams it closes
    ({"user": "ann"}, [0, 1, 2]),
    ({"user": "ann", "issuer": ISSUER}, [0, 1]),
    ({"tokenId": "one"}, [0, 2, 3]),
    ({"tokenId": "one", "issuer": ISSUER}, [0, 3]),
    ({"user": "nobody"}, []),
    ({"user": "an"}, []),
]


@pytest.mark.parametrize(("query", "closed"), CLOSES, ids=[str(query) for query, _ in CLOSES])
def test_close_ends_those_that_are_meant_and_no_others(guarded, query, closed):
    topic = "close"
    streams = [
        open_stream(guarded, topic, "ann", jti="one"),
        open_stream(guarded, topic, "ann", jti="two"),
        open_stream(guarded, topic, "ann", jti="one", iss="https://other.example"),
        open_stream(guarded, topic, "bob", jti="one"),
        open_stream(guarded, topic, "bob", jti="two"),
        Stream(guarded.hub.port, topic=topic),
    ]
    answer = guarded.client.delete("/connections", params=query, headers=guarded.operator)
    assert (answer.status_code, answer.json()) == (200, {"closed": len(closed)})
    after = guarded.publish(topic, "after")
    for number, stream in enumerate(streams):
        if number in closed:
            check_ended(stream, "closed")
        else:
            assert stream.event().id == after
            stream.close()
    with open_stream(guarded, topic, "ann", jti="one") as again:
        back = guarded.publish(topic, "back")
        assert again.event().id == back


def test_close_ends_one_by_its_id(guarded, topic):
    first, second = (open_stream(guarded, topic, "ann", jti="twice") for _ in range(2))
    ids = [item["id"] for item in listed(guarded, tokenId="twice")["connections"]]
    assert len(set(ids)) == 2
    path = f"/connections/{ids[0]}"
    answer = guarded.client.delete(path, headers=guarded.operator)
    assert (answer.status_code, answer.json()) == (200, {"closed": 1})
    assert [item["id"] for item in listed(guarded, tokenId="twice")["connections"]] == ids[1:]
    check_refused(guarded.client.delete(path, headers=guarded.operator), 404, "not-found")
    after = guarded.publish(topic, "after")
    events = [stream.event() for stream in (first, second)]
    assert sorted((event.id, event.event) for event in events if event.id) == [(after, None)]
    assert [json.loads(event.data) for event in events if not event.id] == [{"reason": "closed"}]
    first.close()
    second.close()


@pytest.mark.parametrize(
    ("method", "query"),
    [
        ("DELETE", {}),
        ("DELETE", {"issuer": ISSUER}),
        ("DELETE", {"usr": "ann"}),
        ("DELETE", {"user": "ann", "tokenId": "one"}),
        ("GET", {"limit": 0}),
        ("GET", {"limit": 1001}),
        ("GET", {"after": "x"}),
    ],
)
def test_question_that_means_nobody_closes_nobody(guarded, topic, method, query):
    with open_stream(guarded, topic, "ann") as stream:
        answer = guarded.client.request(
            method, "/connections", params=query, headers=guarded.operator
        )
        check_refused(answer, 400, "invalid-parameter")
        after = guarded.publish(topic, "goes on")
        assert stream.event().id == after


def test_revoked_token_is_shut_out_at_once(guarded, topic):
    lost = token("ann", publish=["*"], subscribe=["*"], jti="lost")
    other = open_stream(guarded, topic, "ann", jti="kept")
    streams = [Stream(guarded.hub.port, headers=bearer(lost), topic=topic) for _ in range(3)]
    assert guarded.revoke("lost") == 3
    uses = [
        {"headers": bearer(lost)},
        {"params": {"access_token": lost}},
        {"headers": {"cookie": f"tidings_token={lost}"}},
    ]
    for use in uses:
        check_refused(guarded.client.get("/metrics", **use), 401, "invalid-token", "revoked")
    body = {"topic": topic, "data": "forged"}
    answer = guarded.client.post("/events", json=body, headers=bearer(lost))
    check_refused(answer, 401, "invalid-token", "revoked")
    after = guarded.publish(topic, "after")
    for stream in streams:
        check_ended(stream, "revoked")
    assert other.event().id == after
    other.close()


def test_revocation_ends_a_body_that_is_being_sent(guarded, topic):
    """What was published before stays; the next line is refused."""
    line = json.dumps({"topic": topic, "data": "piped"}).encode() + b"\n"
    reader = open_stream(guarded, topic, "reader")
    received = []

    def lines() -> Iterator[bytes]:
        yield line
        received.append(reader.event().id)
        guarded.expect(received[0], None, "piped")
        guarded.revoke("pipe")
        yield line

    headers = bearer(token("ann", publish=["*"], jti="pipe"))
    answer = guarded.client.post(
        "/events", content=lines(), headers=headers | {"content-type": "application/x-ndjson"}
    )
    check_refused(answer, 401, "invalid-token", "revoked")
    problem = answer.json()
    assert (problem["published"], problem["lastEventId"]) == (1, received[0])
    reader.close()


def test_revocation_is_of_one_issuer_if_it_names_one(guarded, topic):
    streams = [
        open_stream(guarded, topic, "ann", jti="same", iss=issuer)
        for issuer in (ISSUER, "https://other.example")
    ]
    body = {"tokenId": "same", "issuer": ISSUER, "expiresAt": NEVER}
    answer = guarded.client.post("/revocations", json=body, headers=guarded.operator)
    assert (answer.status_code, answer.json()) == (200, {"closed": 1})
    after = guarded.publish(topic, "after")
    check_ended(streams[0], "revoked")
    assert streams[1].event().id == after
    streams[1].close()
    revoked = guarded.client.get("/revocations", headers=guarded.operator).json()["revocations"]
    assert body in revoked


@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_revocation_outlives_the_process(start_guarded, tmp_path: Path, is_killed):
    ids = ["lost", 'a "b"\\, c', "é" * 50]
    first = start_guarded(data=tmp_path / "data")
    for token_id in ids:
        first.revoke(token_id)
    (first.hub.kill if is_killed else first.hub.close)()
    first.witness.close()
    second = start_guarded(data=tmp_path / "data")
    for token_id in ids:
        answer = second.poll(bearer(token("ann", jti=token_id)), topic="a")
        check_refused(answer, 401, "invalid-token", "revoked")
    kept = second.client.get("/revocations", headers=second.operator).json()["revocations"]
    assert sorted(item["tokenId"] for item in kept) == sorted(ids)
    assert second.poll(bearer(token("ann", jti="kept")), topic="a").status_code == 200
    second.check_undisturbed()
    second.witness.close()


def test_stream_ends_with_its_token_and_goes_on_with_the_next(guarded, topic):
    expires_at = int(time.time()) + 2
    said = {"subscribe": [topic], "exp": expires_at}
    with Stream(guarded.hub.port, headers=bearer(token("ann", **said)), topic=topic) as stream:
        before = guarded.publish(topic, "before", private=True)
        assert stream.event().id == before
        check_ended(stream, "expired")
        assert time.time() >= expires_at
    missed = guarded.publish(topic, "missed", private=True)
    expired = guarded.poll(bearer(token("ann", **said)), topic=topic, lastEventId=before)
    check_refused(expired, 401, "invalid-token", "expired")
    renewed = bearer(token("ann", subscribe=[topic]))
    with Stream(guarded.hub.port, headers=renewed, topic=topic, lastEventId=before) as stream:
        assert stream.event().id == missed


def test_poll_does_not_outlast_its_token(guarded, topic):
    expires_at = int(time.time()) + 2
    headers = bearer(token("ann", exp=expires_at)) | {"accept": "application/json"}
    query = {"topic": topic, "mode": "poll", "wait": 60}
    answer = guarded.client.get("/events", params=query, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    assert expires_at <= time.time() < expires_at + 20


def told(answer: httpx.Response) -> tuple[int, dict]:
    return answer.status_code, {name: value for name, value in answer.json().items() if name != "instance"}  # fmt: skip


def test_refusals_say_nothing_of_what_exists(guarded):
    """What is there and what is not are answered alike to who lacks the right."""
    guarded.publish("exists/1", "there", private=True)
    guarded.publish("exists/2", "over", private=True, final=True)
    reader = open_stream(guarded, "exists/1", "bob", jti="bobs")
    (connection,) = listed(guarded, user="bob")["connections"]
    ann = bearer(token("ann", publish=["ann"], subscribe=["ann"]))
    for who in (ann, {}):
        published = [
            told(guarded.client.post("/events", json={"topic": topic}, headers=who))
            for topic in ("exists/1", "exists/2", "missing/")
        ]
        status, problem = published[0]
        for topic, answer in zip(("exists/2", "missing/"), published[1:], strict=True):
            said = json.loads(json.dumps(problem).replace("exists/1", topic))
            assert answer == (status, said)
        for method, paths in {
            "DELETE": [f"/connections/{connection['id']}", "/connections/0", "/connections/x"],
            "GET": ["/connections?user=bob", "/connections?user=nobody", "/connections?limit=no"],
        }.items():
            answers = [told(guarded.client.request(method, path, headers=who)) for path in paths]
            assert answers == [answers[0]] * 3
            assert answers[0][0] == (403 if who else 401)
        polls = [
            guarded.poll(who, topic=topic, last="earliest").json()["events"]
            for topic in ("exists/1", "exists/2", "missing/")
        ]
        assert polls == [[], [], []]
    reader.close()


FIGURES = ["/metrics", "/stats"]


@pytest.mark.parametrize("path", FIGURES)
def test_figures_are_for_operators(guarded, path):
    ann = bearer(token("ann", publish=["*"], subscribe=["*"]))
    check_refused(guarded.client.get(path), 401, "missing-token")
    check_refused(guarded.client.get(path, headers=ann), 403, "missing-right", "operate")
    with guarded.client.stream("GET", path, headers=guarded.operator) as answer:
        assert answer.status_code == 200
    for public in ("/health/live", "/health/ready", "/openapi.json"):
        assert guarded.client.get(public).status_code == 200


@pytest.mark.parametrize("path", FIGURES)
def test_figures_are_for_everyone_if_they_are_public(start_guarded, path):
    hub = start_guarded("--public-figures=true")
    for headers in ({}, bearer(token("ann")), hub.operator):
        with hub.client.stream("GET", path, headers=headers) as answer:
            assert answer.status_code == 200
    check_refused(hub.client.get("/connections"), 401, "missing-token")
    hub.witness.close()


def test_figures_end_with_the_token_that_showed_them(guarded):
    token_id = "figures-1"
    operator = bearer(token("operator", operate=True, jti=token_id))
    with Stream(guarded.hub.port, path="/stats", headers=operator) as figures:
        assert figures.event().event == "stats"
        guarded.revoke(token_id)
        with pytest.raises(EOFError):
            while True:
                figures.event()
