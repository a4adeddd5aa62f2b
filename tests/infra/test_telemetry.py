"""Checks that dashboard, alerts and documentation of telemetry use the same metrics."""

import json
import re
import unittest

from . import given

DOCUMENT = (given.ROOT / "docs/telemetry.md").read_text()
DASHBOARD = json.loads((given.ROOT / "docs/grafana-dashboard.json").read_text())


def section(title):
    """The text of `docs/telemetry.md` below a heading."""
    return DOCUMENT.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def series():
    """The names of the documented metrics in Prometheus, each with its labels."""
    found = {}
    for line in section("Metrics").splitlines():
        if line.startswith("| `"):
            name, kind, unit, _, attributes = (cell.strip() for cell in line.strip("|").split("|"))
            name = name.strip("`").replace(".", "_")
            if unit == "`s`":
                name += "_seconds"
            labels = {label.replace(".", "_") for label in re.findall(r"`([^`]+)`", attributes)} | {"job", "instance", "le"}
            suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count", "_sum"], "gauge": [""]}[kind]
            found.update({name + suffix: labels for suffix in suffixes})
    return found


def expressions():
    """All PromQL expressions of the dashboard and of the documented alerts."""
    targets = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return targets + re.findall(r"expr: (?:>\n)?(.*?)(?=\n +(?:annotations|for):)", section("Alerts"), re.DOTALL)


class Telemetry(unittest.TestCase):
    def test_expressions_use_documented_metrics_and_labels(self):
        for expression in expressions():
            names = re.findall(r"(?:vivadrop|http_client)_\w+", re.sub(r"\{[^}]*\}|by \([^)]*\)", "", expression))
            self.assertTrue(names, expression)
            for name in names:
                self.assertIn(name, series(), expression)
            labels = re.findall(r"(\w+)\s*(?:=|!=|=~)\"", expression)
            labels += [label.strip() for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(",")]
            for label in labels:
                self.assertTrue(any(label in series()[name] for name in names), f"{label}: {expression}")

    def test_the_dashboard_shows_every_metric(self):
        shown = " ".join(expressions())
        for name in {re.sub(r"_(total|bucket|count|sum)$", "", name) for name in series()}:
            self.assertIn(name, shown)

    def test_there_are_five_alerts(self):
        self.assertEqual(section("Alerts").count("- alert: "), 5)


if __name__ == "__main__":
    unittest.main()
