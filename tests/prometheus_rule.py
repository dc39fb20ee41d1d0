"""`python -m tests.prometheus_rule` writes the rules of deploy/prometheus for Prometheus' operator."""

from pathlib import Path

import yaml

DEPLOY = Path(__file__).parents[1] / "deploy"
RULES = DEPLOY / "prometheus/rules.yaml"
TARGET = DEPLOY / "kubernetes/monitoring/rules.yaml"
_HEAD = """\
# Written by `make prometheus-rule`: the rules of deploy/prometheus/rules.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: spendmeter}
spec:
"""


def rendered() -> str:
    """The manifest: what the file of rules has, one step further in."""
    rules = RULES.read_text(encoding="utf-8")
    groups = rules[rules.index("groups:") :]
    manifest = _HEAD + "".join(f"  {line}".rstrip() + "\n" for line in groups.splitlines())
    assert yaml.safe_load(manifest)["spec"] == yaml.safe_load(rules)
    return manifest


if __name__ == "__main__":
    TARGET.write_text(rendered(), encoding="utf-8")
