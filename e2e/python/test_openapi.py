"""The OpenAPI document is valid, served as it stands, and true of the running hub."""

import json
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from prometheus_client import parser as prometheus_text
from prometheus_client.openmetrics import parser as openmetrics

from conftest import FIGURES, OPENAPI, REPOSITORY
from stream import Stream

EXAMPLE_COUNT_MAX = 150  # for each operation
STREAM_SECONDS_MAX = 1.5  # longer than the second between two `stats` events
WHOLE_NUMBERS = ("retry", "last", "lifetime", "expiresAt")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


@schemathesis.serializer("application/x-ndjson")
def ndjson(context: schemathesis.SerializationContext, value: object) -> bytes:
    """One JSON text a line."""
    lines = value if isinstance(value, list) else [value]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


described = schemathesis.openapi.from_path(
    OPENAPI, config=schemathesis.Config.from_dict({"max-stream-events": 1})
)


@pytest.fixture(scope="module")
def asked(request: pytest.FixtureRequest) -> Iterator[Counter]:
    """Counts the requests to each operation, for the figures."""
    counts = Counter()
    yield counts
    for label, count in counts.items():
        request.config.stash[FIGURES].append(f"schemathesis, {label}: {count} requests")


@pytest.fixture(params=["text/event-stream", "application/json", "*/*"])
def accept(request: pytest.FixtureRequest) -> str:
    return request.param


@described.parametrize()
@settings(
    max_examples=EXAMPLE_COUNT_MAX,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_conforms(case: schemathesis.Case, hub, accept, asked):
    asked[case.operation.label] += 1
    becomes_valid = False
    if case.operation.label == "GET /events":
        becomes_valid = changes_type_in_a_url(case.query)
        end_at_once(case)
    elif case.operation.label == "POST /events":
        # The serializer makes one line of what is no array.
        becomes_valid = case.media_type == "application/x-ndjson" and not isinstance(
            case.body, list
        )
        write_whole_numbers(case.body)
        give_one_key(case)
    elif case.operation.label in ("POST /tickets", "POST /revocations"):
        write_whole_numbers(case.body)
    elif case.operation.label in ("GET /connections", "DELETE /connections"):
        say_whose(case)
    case.call_and_validate(
        hub.url,
        headers={"accept": accept},
        timeout=STREAM_SECONDS_MAX,
        excluded_checks=[schemathesis.checks.negative_data_rejection] if becomes_valid else [],
    )


def changes_type_in_a_url(query: dict) -> bool:
    """Whether a value only becomes text, and maybe valid, in the URL: `topic=false` is a topic."""

    def stays(name: str, value: object) -> bool:
        if name in ("topic", "event"):
            return isinstance(value, list) and all(isinstance(item, str) for item in value)
        return isinstance(value, str | int) and not isinstance(value, bool)

    return not all(stays(name, value) for name, value in query.items())


def end_at_once(case: schemathesis.Case) -> None:
    """Turns a subscription that would stay open into a poll that answers at once, without a ticket,
    beside which nothing else may stand.
    """
    case.query.pop("ticket", None)
    if case.query.get("mode", "stream") == "stream":
        case.query["mode"] = "poll"
    wait = str(case.query.get("wait", 0))
    if wait.isdecimal() and int(wait) <= 60:
        case.query["wait"] = 0


def write_whole_numbers(body: object) -> None:
    """Writes 5.0 as 5: an integer for JSON Schema either way, but not for the hub."""
    for fields in body if isinstance(body, list) else [body]:
        for name, value in fields.items() if isinstance(fields, dict) else []:
            if name in WHOLE_NUMBERS and isinstance(value, float) and value.is_integer():
                fields[name] = int(value)


def say_whose(case: schemathesis.Case) -> None:
    """Leaves the user or the token, which a schema cannot say, and says one where one must be."""
    if "user" in case.query:
        case.query.pop("tokenId", None)
    elif "tokenId" not in case.query:
        case.query.pop("issuer", None)
        if case.operation.label == "DELETE /connections":
            case.query["user"] = "nobody"


def give_one_key(case: schemathesis.Case) -> None:
    """Leaves out a header that contradicts the body, which a schema cannot say."""
    has_own = isinstance(case.body, dict) and "key" in case.body
    is_long = len(str(case.headers.get("Idempotency-Key", ""))) > 235
    if has_own or is_long:
        case.headers.pop("Idempotency-Key", None)


def test_document_is_valid(api):
    validate(api)


def test_document_is_served(hub, api):
    assert hub.client.get("/openapi.json").json() == api


def test_version_is_the_hubs(hub, api):
    with Stream(hub.port, path="/stats") as stream:
        stats = json.loads(stream.event().data)
    assert stats["version"] == api["info"]["version"]


def test_stats_conform(hub, api, topic):
    figures = Draft202012Validator({**api, "$ref": "#/components/schemas/Stats"})
    with Stream(hub.port, path="/stats") as stream, Stream(hub.port, topic=topic) as subscriber:
        before = stream.event()
        hub.publish(topic, "seen")
        subscriber.event()
        after = stream.event()
        while json.loads(after.data)["delivered"] == json.loads(before.data)["delivered"]:
            after = stream.event()
    for event in (before, after):
        assert (event.id, event.event) == (None, "stats")
        figures.validate(json.loads(event.data))


def test_documented_operations_exist_and_no_others(hub, api):
    nobody = "/connections/0-100000000"
    paths = {
        path.format(file="app.js", id="0-100000000"): item for path, item in api["paths"].items()
    }
    for path in [*paths, "/nothing", "/events/", "/ui/", "/ui/a/b", "/health", "/tickets/"]:
        for method in METHODS:
            documented = method.lower() in paths.get(path, {})
            with hub.client.stream(method, path) as answer:
                status, headers = answer.status_code, answer.headers
                label = f"{method} {path} answers {status}"
                if documented:
                    assert status != 405 and (status != 404 or path == nobody), label
                    continue
                assert status == (405 if path in paths else 404), label
                assert headers["content-type"] == "application/problem+json", label
                problem = json.loads(answer.read())
            slug = "method-not-allowed" if status == 405 else "not-found"
            assert problem["type"] == f"urn:tidings:problem:{slug}", label
            if status == 405:
                allowed = {item.strip() for item in headers["allow"].split(",")}
                assert {name.upper() for name in paths[path]} <= allowed, label
                assert method not in allowed, label


@pytest.mark.parametrize("path", ["/ui/nothing.js", "/ui/%ff", "/ui/..%2fapp.js", "/%00"])
def test_no_other_file_is_served(hub, api, path):
    check_problem(hub.client.get(path), api, 404, "not-found", {})


EVENT = {"topic": "problems"}
NDJSON = {"content-type": "application/x-ndjson"}
FORM = {"content-type": "application/x-www-form-urlencoded"}
PUBLISHES = [
    # what, request, status, type, members
    ("no topic", {"json": {"data": 1}}, 400, "missing-topic", {"field": "topic"}),
    ("no topics", {"json": {"topic": []}}, 400, "missing-topic", {"field": "topic"}),
    ("the topic *", {"json": {"topic": "*"}}, 400, "invalid-topic", {"field": "topic"}),
    ("a line end in a topic", {"json": {"topic": "a\nb"}}, 400, "invalid-topic", {"field": "topic"}),
    ("a long topic", {"json": {"topic": "é" * 513}}, 400, "invalid-topic", {"field": "topic"}),
    ("many topics", {"json": {"topic": [f"t{n}" for n in range(65)]}}, 400, "invalid-field", {"field": "topic"}),
    ("a topic of another type", {"json": {"topic": 1}}, 400, "invalid-field", {"field": "topic"}),
    ("a line end in a type", {"json": EVENT | {"event": "a\r"}}, 400, "invalid-event-type", {"field": "event"}),
    ("a reserved type", {"json": EVENT | {"event": "tidings.gap"}}, 400, "invalid-event-type", {"field": "event"}),
    ("an empty type", {"json": EVENT | {"event": ""}}, 400, "invalid-event-type", {"field": "event"}),
    ("a negative retry", {"json": EVENT | {"retry": -1}}, 400, "invalid-field", {"field": "retry"}),
    ("a long retry", {"json": EVENT | {"retry": 86_400_001}}, 400, "invalid-field", {"field": "retry"}),
    ("a fraction as retry", {"json": EVENT | {"retry": 0.5}}, 400, "invalid-field", {"field": "retry"}),
    ("text as private", {"json": EVENT | {"private": "yes"}}, 400, "invalid-field", {"field": "private"}),
    ("an unknown field", {"json": EVENT | {"tpoic": 1}}, 400, "unknown-field", {"field": "tpoic"}),
    ("an empty key", {"json": EVENT | {"key": ""}}, 400, "invalid-key", {"field": "key"}),
    ("a long key", {"json": EVENT | {"key": "k" * 257}}, 400, "invalid-key", {"field": "key"}),
    ("a line end in a key", {"json": EVENT | {"key": "a\nb"}}, 400, "invalid-key", {"field": "key"}),
    ("a key of another type", {"json": EVENT | {"key": 1}}, 400, "invalid-field", {"field": "key"}),
    ("text as final", {"json": EVENT | {"final": "yes"}}, 400, "invalid-field", {"field": "final"}),
    ("two keys", {"json": EVENT | {"key": "a"}, "headers": {"idempotency-key": "b"}}, 400, "invalid-key", {"field": "Idempotency-Key"}),
    ("an open quote", {"json": EVENT, "headers": {"idempotency-key": '"a'}}, 400, "invalid-key", {"field": "Idempotency-Key"}),
    ("a long key for several", {"json": [EVENT], "headers": {"idempotency-key": "k" * 236}}, 400, "invalid-key", {"field": "Idempotency-Key"}),
    ("text that is no JSON", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid-json", {}),
    ("JSON that is no event", {"json": "event"}, 400, "invalid-json", {}),
    ("bytes that are no UTF-8", {"content": b'{"topic":"\xff"}', "headers": {"content-type": "application/json"}}, 400, "invalid-json", {}),
    ("no body", {}, 415, "unsupported-media-type", {}),
    ("plain text", {"content": b"hello", "headers": {"content-type": "text/plain"}}, 415, "unsupported-media-type", {}),
    ("a file", {"files": {"topic": b"hello"}}, 415, "unsupported-media-type", {}),
    ("a bad line", {"content": b'{"topic":"problems"}\n{"topic":"problems"}\n{"topic":\n', "headers": NDJSON}, 400, "invalid-json", {"line": 3, "published": 0}),
    ("a bad field in a line", {"content": b'{"topic":"problems","nope":1}\n', "headers": NDJSON}, 400, "unknown-field", {"line": 1, "field": "nope", "published": 0}),
    ("an unknown form field", {"content": b"topic=problems&nope=1", "headers": FORM}, 400, "unknown-field", {"field": "nope"}),
    ("a form without topic", {"content": b"data=1", "headers": FORM}, 400, "missing-topic", {"field": "topic"}),
    ("a large event", {"json": EVENT | {"data": "x" * 1_048_577}}, 413, "event-too-large", {}),
    ("another site", {"json": EVENT, "headers": {"origin": "https://other.example", "sec-fetch-site": "cross-site"}}, 403, "cross-site", {}),
]  # fmt: skip

SUBSCRIPTIONS = [
    # query, Accept, status, type, members
    ("", None, 400, "missing-topic", {"field": "topic"}),
    ("topic=", None, 400, "invalid-selector", {"field": "topic"}),
    ("topic=a%0Ab", None, 400, "invalid-selector", {"field": "topic"}),
    ("topic=" + "a" * 1025, None, 400, "invalid-selector", {"field": "topic"}),
    ("&".join(["topic=a"] + [f"topic=t{n}" for n in range(100)]), None, 400, "invalid-parameter", {"field": "topic"}),
    ("topic=a&event=", None, 400, "invalid-event-type", {"field": "event"}),
    ("topic=a&event=b%0D", None, 400, "invalid-event-type", {"field": "event"}),
    ("topic=a&last=some", None, 400, "invalid-parameter", {"field": "last"}),
    ("topic=a&last=-1", None, 400, "invalid-parameter", {"field": "last"}),
    ("topic=a&last=1e3", None, 400, "invalid-parameter", {"field": "last"}),
    ("topic=a&mode=push", None, 400, "invalid-parameter", {"field": "mode"}),
    ("topic=a&mode=poll&wait=61", None, 400, "invalid-parameter", {"field": "wait"}),
    ("topic=a&mode=poll&wait=soon", None, 400, "invalid-parameter", {"field": "wait"}),
    ("topic=a&control=maybe", None, 400, "invalid-parameter", {"field": "control"}),
    ("topic=a", "text/html", 406, "not-acceptable", {}),
    ("topic=a", "application/json", 406, "not-acceptable", {}),
    ("topic=a&mode=poll&wait=0", "image/png", 406, "not-acceptable", {}),
    ("topic=a&mode=poll&wait=0", "text/event-stream;q=0, */*;q=0", 406, "not-acceptable", {}),
]  # fmt: skip


def check_problem(answer: httpx.Response, api: dict, status: int, slug: str, members: dict) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    Draft202012Validator({**api, "$ref": "#/components/schemas/Problem"}).validate(problem)
    expected = members | {
        "type": f"urn:tidings:problem:{slug}",
        "status": status,
        "instance": answer.headers["x-request-id"],
    }
    assert {name: problem.get(name) for name in expected} == expected


@pytest.mark.parametrize(
    ("request_", "status", "slug", "members"),
    [row[1:] for row in PUBLISHES],
    ids=[row[0] for row in PUBLISHES],
)
def test_bad_publish_is_told_what_is_wrong(hub, api, request_, status, slug, members):
    check_problem(hub.client.post("/events", **request_), api, status, slug, members)


@pytest.mark.parametrize(
    ("query", "accept", "status", "slug", "members"),
    SUBSCRIPTIONS,
    ids=[
        f"{query[:40] or 'no query'} {accept or ''}".strip() for query, accept, *_ in SUBSCRIPTIONS
    ],
)
def test_bad_subscription_is_told_what_is_wrong(hub, api, query, accept, status, slug, members):
    headers = {"accept": accept} if accept else {}
    check_problem(hub.client.get(f"/events?{query}", headers=headers), api, status, slug, members)


def test_bad_line_of_a_pipe_is_told_with_what_was_published(hub, api, topic):
    line = b'{"topic":"%s"}\n' % topic.encode()
    with Stream(hub.port, topic=topic) as stream:
        received = []

        def lines():
            yield line * 2
            received.extend(stream.event().id for _ in range(2))
            yield b"{\n"

        answer = hub.client.post("/events", content=lines(), headers=NDJSON)
    check_problem(
        answer, api, 400, "invalid-json", {"line": 3, "published": 2, "lastEventId": received[-1]}
    )


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("text/plain", prometheus_text.text_string_to_metric_families),
        ("application/openmetrics-text", openmetrics.text_string_to_metric_families),
    ],
    ids=["Prometheus", "OpenMetrics"],
)
def test_metrics_are_what_prometheus_reads(hub, topic, accept, parse):
    with Stream(hub.port, topic=topic) as stream:
        hub.publish(topic, "counted")
        stream.event()
        answer = hub.client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith(accept)
    families = {family.name: family for family in parse(answer.text)}
    assert all(name.startswith(("tidings_", "process_")) for name in families)
    assert {
        family.name for family in families.values() if family.type in ("unknown", "untyped")
    } == set()
    histograms = [family for family in families.values() if family.type == "histogram"]
    assert len(histograms) >= 2
    for histogram in histograms:
        samples = {
            (sample.name, sample.labels.get("le")): sample.value for sample in histogram.samples
        }
        count = samples[f"{histogram.name}_count", None]
        assert samples.get((f"{histogram.name}_bucket", "+Inf")) == count


def test_body_that_is_not_read_to_its_end_closes_the_connection(hub, api):
    """Otherwise a client would send its next request on a connection that is about to break."""
    with httpx.Client(base_url=hub.url) as client:
        answer = client.post("/events", json=[EVENT | {"data": "x" * 1_000_000}] * 17)
        check_problem(answer, api, 413, "body-too-large", {})
        assert answer.headers.get("connection") == "close"


def test_hub_that_drains_says_so(start_hub, api):
    hub = start_hub("--drain", "2s")
    assert hub.client.get("/health/ready").json() == {"status": "ok"}
    with Stream(hub.port, topic="a") as stream:
        hub.begin_shutdown()
        shutdown = stream.event()
        ready = hub.client.get("/health/ready")
        refused = hub.client.get(
            "/events?topic=a&mode=poll", headers={"accept": "application/json"}
        )
        with pytest.raises(EOFError):
            stream.event()
    assert (shutdown.id, shutdown.event) == (None, "tidings.shutdown")
    assert json.loads(shutdown.data)["retryMs"] > 2000
    assert ready.status_code == 503
    Draft202012Validator({**api, "$ref": "#/components/schemas/Unavailable"}).validate(ready.json())
    check_problem(refused, api, 503, "shutting-down", {})
    assert int(refused.headers["retry-after"]) >= 1
    assert hub.close() == 0


def test_full_hub_turns_polls_away_with_a_problem(start_hub, api):
    full = start_hub("--max-connections", "1")
    with Stream(full.port, topic="a"):
        poll = full.client.get(
            "/events?topic=a&mode=poll&wait=0", headers={"accept": "application/json"}
        )
        check_problem(poll, api, 503, "too-many-connections", {})
        assert int(poll.headers["retry-after"]) >= 1


def test_full_hub_ends_streams_politely_and_takes_publishes(start_hub):
    full = start_hub("--max-connections", "1", "--retry", "2s")
    with Stream(full.port, topic="a") as served:
        with Stream(full.port, topic="a") as turned_away:
            assert int(turned_away.line().removeprefix("retry: ")) > 2000
            with pytest.raises(EOFError):
                turned_away.event()
        published = full.publish("a", "still taken")
        assert served.event().id == published


def test_every_problem_is_in_the_reference(api):
    listed = (REPOSITORY / "docs/reference/problems.md").read_text()
    for urn in api["components"]["schemas"]["ProblemType"]["enum"]:
        assert f"`{urn.removeprefix('urn:tidings:problem:')}`" in listed
