"""Alerts fire when they should, and ask only for what a hub says; so does the dashboard."""

import json
import re
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from cluster.engines import Redis
from conftest import REPOSITORY
from proxies import DEPLOY, Certificate
from tokens import EcKey

RULES = DEPLOY / "prometheus/alerts.yml"
DASHBOARD = json.loads((DEPLOY / "grafana/tidings.json").read_text())
PAGE = (REPOSITORY / "docs/operate/alerts.md").read_text()

# What Prometheus itself knows, and what the rules record.
OF_PROMETHEUS = {"up", "ALERTS"}


def promtool(*arguments: object) -> str:
    run = subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


def rules() -> list[dict]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> dict[str, dict]:
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recorded() -> set[str]:
    return {rule["record"] for rule in rules() if "record" in rule}


def queries() -> list[str]:
    """What the dashboard asks Prometheus."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]
    return found + [it["expr"] for it in DASHBOARD["annotations"]["list"]]


def metrics_of(expression: str) -> set[str]:
    """The metrics that an expression names."""
    without_labels = re.sub(r"\{[^}]*\}", " ", expression)
    return set(re.findall(r"(?<![:\w])(?:tidings|process)_\w+(?![:\w])", without_labels))


@pytest.fixture(scope="module")
def key_set(tmp_path_factory) -> Iterator[str]:
    """The URL of a set with a key in it."""
    keys = json.dumps({"keys": [EcKey(tmp_path_factory.mktemp("keys")).jwk() | {"kid": "k"}]})

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(keys)))
            self.end_headers()
            self.wfile.write(keys.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def redis() -> Iterator[Redis]:
    engine = Redis()
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def said(start_hub, tmp_path_factory, key_set, redis) -> str:
    """The metrics of a hub that uses all there is to be watched, and has refused something."""
    certificate = Certificate(tmp_path_factory.mktemp("certificate"))
    tls = ["--tls-cert", certificate.cert, "--tls-key", certificate.key]
    webhook = ["--authorization-webhook", "http://127.0.0.1:9/"]
    options = [*tls, *webhook, "--jwks-url", key_set, "--public-figures"]
    hub = start_hub(*options, store=redis.url(), trust=certificate.cert)
    assert hub.client.get("/events", params={"topic": ""}).status_code == 400
    return hub.client.get("/metrics").text


def test_the_rules_are_right():
    assert "SUCCESS" in promtool("check", "rules", RULES)


def test_each_alert_fires_when_it_should_and_not_before():
    assert "SUCCESS" in promtool("test", "rules", DEPLOY / "prometheus/alerts.test.yml")


def test_each_alert_is_seen_to_fire():
    tested = (DEPLOY / "prometheus/alerts.test.yml").read_text()
    for name in alerts():
        assert f'alertname="{name}"' in tested, f"nothing shows that {name} fires"


def test_each_alert_is_explained():
    for name, alert in alerts().items():
        assert f"\n## {name}\n" in PAGE, f"{name} has no section"
        assert alert["annotations"]["runbook"] == f"docs/operate/alerts.md#{name.lower()}"
        assert alert["labels"]["severity"] in {"warning", "critical"}
    assert set(re.findall(r"^## (Tidings\w+)$", PAGE, re.MULTILINE)) == alerts().keys()


def test_a_hub_says_all_that_is_asked_for(said):
    names = set(re.findall(r"^(\w+)(?:\{| )", said, re.MULTILINE))
    asked = set().union(*(metrics_of(it) for it in [*queries(), *(it["expr"] for it in rules())]))
    assert len(asked) > 30
    assert asked - names == set()


def test_labels_that_are_asked_for_are_said(said):
    for expression in [*queries(), *(rule["expr"] for rule in rules())]:
        for name, label, value in re.findall(r'(tidings_\w+)\{[^}]*?(reason|outcome)="(\w+)"', expression):
            assert f'{name}{{{label}="{value}"}}' in said


def test_prometheus_understands_what_the_hub_says(said, tmp_path):
    run = subprocess.run(
        ["promtool", "check", "metrics"], input=said, capture_output=True, text=True, timeout=60
    )
    assert "error" not in run.stderr.lower(), run.stderr


def test_the_queries_of_the_dashboard_are_right(tmp_path):
    """As rules, for which Prometheus has a check. Variables of Grafana stand for what it would put there."""
    groups = []
    for number, query in enumerate(queries()):
        for variable, value in (("$__rate_interval", "1m"), ("$job", ".*"), ("$instance", ".*")):
            query = query.replace(variable, value)
        assert "$" not in query
        groups.append({"record": f"panel:number_{number}", "expr": query})
    file = tmp_path / "queries.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": groups}]}))
    assert f"{len(groups)} rules found" in promtool("check", "rules", file)


def test_the_dashboard_is_laid_out():
    """No two panels in one place, no two with one number, each with a word on what it shows."""
    taken: dict[tuple[int, int], str] = {}
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                other = taken.setdefault((x, y), panel["title"])
                assert other == panel["title"], f"{panel['title']} lies over {other}"
        assert panel["type"] == "row" or panel["description"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
