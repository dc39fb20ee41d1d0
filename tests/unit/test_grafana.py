"""Grafana's dashboards: what is checked in is what the code makes, with all that people rely on."""

import json
import re
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import yaml

from spendmeter_grafana.dashboards import rendered
from spendmeter_grafana.frame import ZONES
from tests.integration.grafana.plugin import DASHBOARDS

FOLDER = DASHBOARDS.parent
METRICS = (FOLDER.parents[1] / "docs/reference/metrics.md").read_text(encoding="utf-8")
MADE: dict[str, Any] = {name: json.loads(text) for name, text in rendered().items()}
PANELS = [(name, panel) for name, made in MADE.items() for panel in made["panels"] if panel["type"] != "row"]


def test_what_is_checked_in_is_what_the_code_makes() -> None:
    checked_in = {path.name: path.read_text(encoding="utf-8") for path in DASHBOARDS.iterdir()}
    assert checked_in == rendered(), "`make grafana` writes them anew"


def test_ids_are_those_that_people_have_in_bookmarks() -> None:
    assert [made["uid"] for made in MADE.values()] == [
        f"spendmeter-{name}" for name in ("overview", "team-key", "budgets", "refusals", "pipeline")
    ]
    for made in MADE.values():
        ids = [panel["id"] for panel in made["panels"]]
        assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("made", MADE.values(), ids=MADE)
def test_a_dashboard_names_no_data_source_and_leads_to_the_others(made: dict[str, Any]) -> None:
    named = set(re.findall(r'"uid": "([^"]+)"', json.dumps({**made, "uid": ""})))
    assert named == {"${prometheus}" if made["uid"] == "spendmeter-pipeline" else "${datasource}"}
    assert made["tags"] == ["spendmeter"]
    [link] = made["links"]
    assert (link["tags"], link["keepTime"], link["includeVars"]) == (["spendmeter"], True, True)


@pytest.mark.parametrize(("name", "panel"), PANELS, ids=[f"{n}-{p['title']}" for n, p in PANELS])
def test_a_panel_says_what_it_is(name: str, panel: dict[str, Any]) -> None:
    assert panel["title"], name
    assert panel["description"].endswith("."), "what it shows, in a sentence"
    position = panel["gridPos"]
    assert position["x"] + position["w"] <= 24
    if panel["type"] != "table":
        assert panel["fieldConfig"]["defaults"]["unit"]
    for column in re.findall(r" AS (\w*usd\w*)", json.dumps(panel["targets"])):
        units = [o for o in panel["fieldConfig"]["overrides"] if o["matcher"]["options"] == column]
        assert units or panel["fieldConfig"]["defaults"].get("unit") == "currencyUSD", column


def test_links_of_cells_lead_to_dashboards_and_variables_that_exist() -> None:
    links = re.findall(r"/d/([\w-]+)\?var-(\w+)=\$\{__data\.fields\.(\w+):", "".join(rendered().values()))
    variables = {made["uid"]: {v["name"] for v in made["templating"]["list"]} for made in MADE.values()}
    assert len(links) >= 6
    for uid, variable, _ in links:
        assert variable in variables[uid]


def test_what_a_cell_leads_by_is_in_its_table() -> None:
    for _, panel in PANELS:
        by = set(re.findall(r"__data\.fields\.(\w+):", json.dumps(panel)))
        sql = json.dumps([target.get("rawSql") for target in panel["targets"]])
        assert all(re.search(rf"\b{column}\b", sql) for column in by), panel["title"]


def test_each_metric_of_a_panel_exists() -> None:
    named = set(re.findall(r"\bspendmeter_[a-z_]+", " ".join(expressions())))
    assert len(named) > 30
    assert named <= set(re.findall(r"`(spendmeter_[a-z_]+)", METRICS))


def test_no_secret_stands_in_what_grafana_is_provisioned_with() -> None:
    [sources] = [yaml.safe_load(p.read_text()) for p in (FOLDER / "provisioning/datasources").glob("*.yaml")]
    by_type = {source["type"]: source for source in sources["datasources"]}
    for source in by_type.values():
        assert all(value.startswith("$") for value in source.get("secureJsonData", {}).values())
    assert by_type.keys() == {"grafana-clickhouse-datasource", "prometheus"}
    assert by_type["grafana-clickhouse-datasource"]["jsonData"]["username"] == "spend_grafana"
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\$(SPEND_\w+)", json.dumps(sources))) == set(re.findall(r"SPEND_\w+", readme))
    [providers] = [yaml.safe_load(p.read_text()) for p in (FOLDER / "provisioning/dashboards").glob("*.yaml")]
    [provider] = providers["providers"]
    assert provider["options"]["path"] in readme


def test_midnight_of_each_zone_that_is_offered_is_a_whole_hour() -> None:
    for name in ZONES:
        for month in range(1, 13):
            offset = datetime(2026, month, 1, tzinfo=UTC).astimezone(ZoneInfo(name)).utcoffset()
            assert offset is not None
            assert offset.total_seconds() % 3_600 == 0, name


def expressions() -> list[str]:
    return [target["expr"] for _, panel in PANELS for target in panel["targets"] if "expr" in target]
