"""Publishing again without doubles, and topics that end, as a client of any language sees them."""

import json

import pytest
from jsonschema import Draft202012Validator

from stream import Stream

JSON = {"accept": "application/json"}
NDJSON = {"content-type": "application/x-ndjson"}


def poll(hub, **query) -> dict:
    """What is kept, without waiting."""
    answer = hub.client.get("/events", params={"mode": "poll", "wait": 0} | query, headers=JSON)
    assert answer.status_code == 200, answer.text
    return answer.json()


def ids(answer) -> list[str]:
    assert answer.status_code == 200, answer.text
    return answer.json()["ids"]


def test_repeated_key_is_answered_with_the_first_id_and_delivered_once(hub, topic):
    repeated = hub.metric("tidings_events_repeated_total")
    first = hub.publish(topic, "paid", key=f"{topic}-paid")
    assert hub.publish(topic, "paid again", key=f"{topic}-paid") == first
    last = hub.publish(topic, "shipped")
    events = poll(hub, topic=topic, last="earliest")["events"]
    assert [(event["id"], event["data"]) for event in events] == [(first, "paid"), (last, "shipped")]
    assert hub.metric("tidings_events_repeated_total") == repeated + 1


@pytest.mark.parametrize("quote", ["", '"'], ids=["as it is", "in quotes"])
def test_header_is_the_key_of_one_event(hub, topic, quote):
    key = {"idempotency-key": f"{quote}{topic}{quote}"}
    answers = [
        hub.client.post("/events", json={"topic": topic}, headers=key),
        hub.client.post("/events", json={"topic": topic, "key": topic}, headers=key),
        hub.client.post("/events", json={"topic": topic, "key": topic}),
        hub.client.post("/events", data={"topic": topic}, headers=key),
        hub.client.post("/events", data={"topic": topic, "key": topic}),
    ]
    assert len({answer.json()["id"] for answer in answers}) == 1


def test_header_numbers_the_events_of_a_batch(hub, topic):
    """A batch that was cut is sent again as a whole, in another form if need be."""
    event = {"topic": topic}
    key = {"idempotency-key": topic}
    first = ids(hub.client.post("/events", json=[event, event], headers=key))
    lines = b"\n\n".join([json.dumps(event).encode()] * 3)
    again = ids(hub.client.post("/events", content=lines, headers=NDJSON | key))
    assert again[:2] == first
    assert len(set(again)) == 3
    second = ids(hub.client.post("/events", json=[event | {"key": f"{topic}:2"}]))
    assert second == [first[1]]
    own = [event | {"key": f"{topic}-own"}, event]
    given = ids(hub.client.post("/events", json=own, headers=key))
    assert given[1] == first[1] and given[0] not in again


def test_pipe_that_was_cut_goes_on_where_it_ended(hub, topic):
    def lines(count: int):
        for number in range(count):
            yield json.dumps({"topic": topic, "data": number}).encode() + b"\n"

    key = {"idempotency-key": topic}
    cut = hub.client.post(
        "/events", content=b"".join(lines(1500)) + b"{", headers=NDJSON | key
    )
    assert cut.status_code == 400
    hub.client.post("/events", content=lines(700), headers=NDJSON | key)
    whole = ids(hub.client.post("/events", content=lines(5000), headers=NDJSON | key))
    assert len(set(whole)) == 5000
    received = []
    batch = {"lastEventId": "", "events": [None]}
    while batch["events"]:
        query = {"lastEventId": batch["lastEventId"]} if received else {"last": "earliest"}
        batch = poll(hub, topic=topic, **query)
        received += [int(event["data"]) for event in batch["events"]]
    assert received == list(range(5000))


def test_last_event_ends_the_streams_of_its_topic(hub, api, topic):
    with (
        Stream(hub.port, topic=topic) as alone,
        Stream(hub.port, topic=[topic, f"{topic}/other"]) as both,
        Stream(hub.port, topic=topic, control="off") as quiet,
    ):
        hub.publish(topic, "half", event="progress")
        last = hub.publish(topic, "done", event="complete", final=True)
        for stream in (alone, both, quiet):
            assert stream.event().data == "half"
            assert stream.event().id == last
        finished = alone.event()
        assert (finished.id, finished.event) == (None, "tidings.finished")
        assert json.loads(finished.data) == {"topics": [topic]}
        for stream in (alone, quiet):
            with pytest.raises(EOFError):
                stream.event()
        hub.publish(f"{topic}/other", "goes on")
        assert both.event().data == "goes on"


def test_finished_topic_is_delivered_once_more_and_then_answered_204(hub, api, topic):
    first = hub.publish(topic, "half")
    last = hub.publish(topic, "done", final=True)
    batch = poll(hub, topic=topic, last="earliest")
    Draft202012Validator({**api, "$ref": "#/components/schemas/Batch"}).validate(batch)
    assert [event.get("final") for event in batch["events"]] == [None, True, None]
    assert batch["events"][-1]["event"] == "tidings.finished"
    assert batch["lastEventId"] == last
    with Stream(hub.port, topic=topic, lastEventId=first) as stream:
        assert stream.event().id == last
        assert stream.event().event == "tidings.finished"
        with pytest.raises(EOFError):
            stream.event()
    for query in ({}, {"lastEventId": last}, {"mode": "poll", "lastEventId": last}):
        for accept in ("text/event-stream", "application/json" if "mode" in query else "*/*"):
            answer = hub.client.get(
                "/events", params={"topic": topic} | query, headers={"accept": accept}
            )
            assert (answer.status_code, answer.content) == (204, b"")
            assert "x-request-id" in answer.headers


def test_nothing_is_published_to_a_finished_topic(hub, api, topic):
    last = hub.publish(topic, "done", final=True, key=f"{topic}-done")
    event = {"topic": [f"{topic}/other", topic]}
    line = json.dumps({"topic": f"{topic}/other"}).encode() + b"\n"
    for refused in (
        hub.client.post("/events", json=event),
        hub.client.post("/events", json=[{"topic": f"{topic}/other"}, event]),
        hub.client.post("/events", data=event),
        hub.client.post("/events", content=line + json.dumps(event).encode(), headers=NDJSON),
    ):
        assert refused.status_code == 409
        problem = refused.json()
        Draft202012Validator({**api, "$ref": "#/components/schemas/Problem"}).validate(problem)
        assert problem["type"] == "urn:tidings:problem:topic-finished"
        assert topic in problem["detail"]
    assert poll(hub, topic=f"{topic}/other", last="earliest")["events"] == []
    assert hub.publish(topic, "done", final=True, key=f"{topic}-done") == last


def test_stream_of_a_finished_topic_is_counted(hub, topic):
    hub.publish(topic, "done", final=True)
    with Stream(hub.port, topic=topic, last="1") as stream:
        assert stream.event().data == "done"
        assert stream.event().event == "tidings.finished"
        with pytest.raises(EOFError):
            stream.event()
    closed = hub.client.get("/metrics").text
    assert 'tidings_connections_closed_total{reason="finished"}' in closed
