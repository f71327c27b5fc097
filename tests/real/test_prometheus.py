"""The alert rules and the dashboard of `etc/prometheus`: understood by Prometheus, and of series that there are."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from consoled.api.census import Census
from consoled.api.meters import Departed, Meters
from consoled.core.hub import Hub
from consoled.core.sources import Asked, SourceState
from consoled.core.tally import Tally
from tests.real import need

FILES = Path(__file__).parents[2] / "etc" / "prometheus"
RULES = FILES / "alerts.yml"


class Disk:
    lost = unwritten = troubled = 0


SOURCE = SourceState("cmdb", "command", 1, 0, (), "", 0, None, Asked(1, good_at=0.0))


def series() -> set[str]:
    """The names of everything that a daemon may show."""
    registry = Meters().registry
    registry.register(Census(Hub(), Departed(), Tally(), Disk, lambda: [SOURCE]))
    names = {"up"}
    for family in registry.collect():
        suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        names |= {family.name + suffix for suffix in suffixes}
    return names


def drawn() -> Iterator[str]:
    """The expressions of the dashboard."""
    for panel in json.loads((FILES / "grafana.json").read_text())["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def expressions() -> Iterator[str]:
    yield from re.findall(r"expr: (?:\|\n)?((?:.|\n)*?)\n +(?:for|labels):", RULES.read_text())
    yield from drawn()


def test_every_series_is_there() -> None:
    found = [name for text in expressions() for name in re.findall(r"\b(?:consoled|process)_\w+", text)]
    assert len(found) > 40
    assert set(found) <= series()


def test_every_state_and_reason_is_there() -> None:
    text = "".join(expressions())
    words = {word for one in re.findall(r'state[!=]~?"([^"]+)"', text) for word in one.split("|")}
    assert words <= {"off", "parked", "dialing", "up", "waiting", "held", "closing"}


def test_the_panels_do_not_lie_upon_one_another() -> None:
    taken: set[Any] = set()
    for panel in json.loads((FILES / "grafana.json").read_text())["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells


@pytest.mark.parametrize("arguments", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]])
def test_prometheus_understands_the_rules(arguments: list[str]) -> None:
    promtool = need("promtool", "prometheus")
    done = subprocess.run([promtool, *arguments], cwd=FILES, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_understands_the_dashboard(tmp_path: Path) -> None:
    """Each panel's expression, with what Grafana puts in, as a rule that would record it."""
    promtool = need("promtool", "prometheus")
    puts_in = {"$instance": ".*", "$__rate_interval": "1m"}
    rules = []
    for number, expression in enumerate(drawn()):
        for variable, value in puts_in.items():
            expression = expression.replace(variable, value)
        assert "$" not in expression
        rules.append({"record": f"drawn:{number}", "expr": expression})
    assert len(rules) > 20
    file = tmp_path / "rules.json"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "drawn", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(rules)} rules found" in done.stdout


def test_every_rule_is_seen_to_fire() -> None:
    rules = set(re.findall(r"alert: (\w+)", RULES.read_text()))
    assert rules == set(re.findall(r"alertname: (\w+)\n +exp_alerts:\n", (FILES / "alerts.test.yml").read_text()))


def test_prometheus_understands_the_page() -> None:
    promtool = need("promtool", "prometheus")
    registry = Meters().registry
    registry.register(Census(Hub(), Departed(), Tally(), Disk, lambda: [SOURCE]))
    page = generate_latest(registry)
    assert list(text_string_to_metric_families(page.decode()))
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
