"""Runs checks beside each other. Each has a bound of time: one that hangs delays nobody and keeps"
" nobody."""

import time
from collections.abc import Callable, Mapping, Sequence
from threading import Thread

from spendmeter.extras import lacks_extra
from spendmeter.visible import one_line
from spendmeter_doctor.checks.gateway import check_gateway
from spendmeter_doctor.checks.kafka import check_kafka
from spendmeter_doctor.checks.litellm import check_litellm
from spendmeter_doctor.checks.prices import check_prices
from spendmeter_doctor.checks.take_over import check_take_over
from spendmeter_doctor.diagnosis import Diagnosis, FindingSeverity, of_sentence, warning
from spendmeter_doctor.system import System

Check = Callable[[System], list[Diagnosis]]


def _check_history(system: System) -> list[Diagnosis]:
    # Not at the top: beside LiteLLM there need be no client of ClickHouse.
    try:
        from spendmeter_doctor.checks.history import check_history
    except ModuleNotFoundError as missing:
        said = f"ClickHouse was not checked: {lacks_extra(missing)}"
        return [of_sentence(FindingSeverity.UNCHECKED, "library-missing", said)]
    return check_history(system)


CHECKS: Mapping[str, Check] = {
    "Kafka": check_kafka,
    "ClickHouse": _check_history,
    "gateway": check_gateway,
    "LiteLLM's configuration": check_litellm,
    "LiteLLM's own limits": check_take_over,
    "prices": check_prices,
}
WITHIN_SECONDS = 45.0
_ORDER = list(FindingSeverity)


def diagnose(
    system: System, within_seconds: float = WITHIN_SECONDS, checks: Mapping[str, Check] = CHECKS
) -> list[Diagnosis]:
    """Everything that is wrong with the system, the worst first."""
    found: dict[str, list[Diagnosis]] = {}
    # Daemons: a check that hangs in a library does not keep the process from ending.
    threads = {
        name: Thread(target=_run, args=(name, check, system, found), name=name, daemon=True)
        for name, check in checks.items()
    }
    deadline = time.monotonic() + within_seconds
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, deadline - time.monotonic()))
    unended = [_unended(name, within_seconds) for name in threads if name not in found]
    return worst_first([*(one for name in threads for one in found.get(name, ())), *unended])


def worst_first(found: Sequence[Diagnosis]) -> list[Diagnosis]:
    """By severity, else in their order; the same twice counts once."""
    return sorted(dict.fromkeys(found), key=lambda one: _ORDER.index(one.severity))


def _run(name: str, check: Check, system: System, found: dict[str, list[Diagnosis]]) -> None:
    try:
        found[name] = check(system)
    except Exception as error:  # of one check; the others' results are wanted all the same
        said = f"{name} was not checked to its end ({type(error).__name__}: {one_line(str(error))})"
        found[name] = [warning("check-failed", said, "report this as a bug, with this line")]


def _unended(name: str, within_seconds: float) -> Diagnosis:
    return warning(
        "check-timed-out",
        f"{name} did not answer within {within_seconds:g} s",
        "see whether a firewall drops its packets, or give more time with --within",
    )
