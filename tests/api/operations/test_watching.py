"""The dashboard and the alert rules of docs/operations: every metric in them exists, every alert has a runbook."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests import makers

# What PromQL knows besides metrics and labels.
WORDS = {
    *("sum", "rate", "by", "le", "histogram_quantile", "topk", "min", "absent", "time", "and", "or", "on"),
    *("humanizeDuration", "__rate_interval"),
}


@pytest.fixture(scope="module")
def operations(root: Path) -> Path:
    return root / "docs/operations"


@pytest.fixture(scope="module")
def alerts(operations: Path) -> list[dict[str, Any]]:
    [group] = yaml.safe_load((operations / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


@pytest.fixture(scope="module")
def panels(operations: Path) -> list[dict[str, Any]]:
    return list(json.loads((operations / "grafana.json").read_text())["panels"])


@pytest.fixture
def served(client) -> dict[str, set[str]]:
    """The labels of each sample of /metrics, by its name."""
    makers.payment()
    client.simulate_get("/health")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(client.simulate_get("/metrics").text):
        # A family without a sample now, such as processes in a test, is named by its type.
        found.setdefault(family.name, set())
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def used(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that an expression names."""
    bare = re.sub(r'"[^"]*"', "", expression)
    names = set(re.findall(r"[a-zA-Z_]\w*", re.sub(r"\[[^\]]*\]", "", bare))) - WORDS
    metrics = {name for name in names if name.startswith(("paywright_", "http_server_"))}
    return metrics, names - metrics


# Only a running installation has these samples.
ONLY_RUNNING = {
    "paywright_processes": {"type"},
    "paywright_jobs_finished_per_minute": {"queue"},
    "paywright_scheduled_job_last_completion_timestamp_seconds": {"job"},
}


def check(expression: str, served: dict[str, set[str]]) -> None:
    metrics, labels = used(expression)
    assert metrics, expression
    known = {**ONLY_RUNNING, **{name: labels for name, labels in served.items() if labels}}
    assert metrics <= {*served, *ONLY_RUNNING}, expression
    assert labels <= set().union(*(known.get(name, set()) for name in metrics)), expression


def test_every_metric_of_the_alert_rules_exists(alerts, served):
    for alert in alerts:
        check(alert["expr"], served)


def test_every_metric_of_the_dashboard_exists(panels, served):
    for panel in panels:
        for target in panel["targets"]:
            check(target["expr"], served)
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                assert label in target["expr"] or any(
                    label in served.get(name, ()) or label in ONLY_RUNNING.get(name, ())
                    for name in used(target["expr"])[0]
                )


def test_no_panel_covers_another(panels):
    places = [panel["gridPos"] for panel in panels]
    cells = [
        (x, y)
        for at in places
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert all(at["x"] + at["w"] <= 24 for at in places)


def test_every_metric_that_asks_for_a_person_has_an_alert(alerts, served):
    watched = set().union(*(used(alert["expr"])[0] for alert in alerts))
    shown_only = {
        *(
            "paywright_jobs",
            "paywright_payments_in_progress",
            "paywright_events_total",
            "paywright_processes",
        ),
        *("paywright_jobs_finished_per_minute", "paywright_invariant_ok", "paywright_events"),
        *(
            "paywright_build",
            "http_server_request_duration_seconds",
            "http_server_request_duration_seconds_sum",
        ),
    }
    assert served.keys() - watched == shown_only & served.keys()


def test_every_alert_leads_to_a_section_of_the_runbook(alerts, operations):
    headings = re.findall(r"^## (.*)$", (operations / "runbook.md").read_text(), re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for alert in alerts:
        page, _, anchor = alert["annotations"]["runbook"].partition("#")
        assert page == "runbook.md"
        assert anchor in anchors, alert["alert"]
        assert alert["labels"]["severity"] in ("critical", "warning")
        assert alert["for"]
        assert alert["annotations"]["summary"].endswith(".")


def test_every_threshold_says_why_it_is_that_one(operations):
    text = (operations / "alerts.yml").read_text()
    rules = text.split("- alert: ")[1:]
    assert all(rule.splitlines()[1].strip().startswith("# ") for rule in rules)
