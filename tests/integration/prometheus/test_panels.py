"""Each expression of Grafana's panels is one that Prometheus understands."""

import subprocess
from pathlib import Path

import pytest
import yaml

from tests.promtool import NoPromtool, find_promtool
from tests.unit.test_grafana import expressions


def test_prometheus_understands_each_expression(tmp_path: Path) -> None:
    try:
        promtool = find_promtool()
    except NoPromtool as none:
        pytest.skip(str(none))
    rules = [
        {"record": f"panel:{number}", "expr": expression.replace("$__rate_interval", "5m")}
        for number, expression in enumerate(expressions())
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    command = [str(promtool), "check", "rules", str(file)]

    said = subprocess.run(command, capture_output=True, text=True, check=False)

    assert said.returncode == 0, said.stdout + said.stderr
