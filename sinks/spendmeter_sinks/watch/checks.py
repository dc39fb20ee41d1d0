"""The checks of this version."""

from collections.abc import Sequence

from spendmeter_sinks.watch.anomaly import Anomalies
from spendmeter_sinks.watch.check import Check
from spendmeter_sinks.watch.digest import Digests
from spendmeter_sinks.watch.drift import Drift
from spendmeter_sinks.watch.gateways import SilentGateways
from spendmeter_sinks.watch.settings import WatchSettings
from spendmeter_sinks.watch.unused import Unused


def checks_of(settings: WatchSettings) -> Sequence[Check]:
    """Every check that the settings have not turned off."""
    checks: list[Check] = [
        Drift(settings),
        SilentGateways(settings),
        Anomalies(settings),
        Unused(settings),
        Digests(settings),
    ]
    return [check for check in checks if check.every]
