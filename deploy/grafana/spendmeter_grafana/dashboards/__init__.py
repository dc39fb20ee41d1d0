"""The five dashboards, and their text."""

import json
from collections.abc import Callable

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from spendmeter_grafana.dashboards import budgets, overview, pipeline, refusals, team_and_key

DASHBOARDS: tuple[Callable[[], Dashboard], ...] = (
    overview.made,
    team_and_key.made,
    budgets.made,
    refusals.made,
    pipeline.made,
)


def rendered() -> dict[str, str]:
    """Name of each file to its text."""
    built = [made().build() for made in DASHBOARDS]
    return {f"{one.uid}.json": json.dumps(one, cls=JSONEncoder, indent=1) + "\n" for one in built}
