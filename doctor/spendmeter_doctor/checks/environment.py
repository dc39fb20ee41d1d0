"""The environment: settings of every process, and names that no process reads."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from pydantic import ValidationError
from pydantic_settings import BaseSettings

from spendmeter.settings import ENV_PREFIX, Settings, problems_of
from spendmeter_console.settings import ConsoleSettings
from spendmeter_doctor.diagnosis import Diagnosis, FindingSeverity, of_sentence, warning
from spendmeter_doctor.system import Process
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_sinks.alerts.settings import AlertSettings
from spendmeter_sinks.clickhouse.settings import SinkSettings
from spendmeter_stream.settings import StreamSettings

SETTINGS_OF: Mapping[Process, type[Settings]] = {
    Process.GATEWAY: GatewaySettings,
    Process.STREAM: StreamSettings,
    Process.SINK: SinkSettings,
    Process.RELAY: AlertSettings,
}
_ALL: tuple[type[BaseSettings], ...] = (*SETTINGS_OF.values(), ConsoleSettings)
_ALIKE = 0.85


def wrong_settings(processes: frozenset[Process]) -> list[Diagnosis]:
    """Each setting that would keep one of these processes from starting."""
    kinds = [SETTINGS_OF[one] for one in sorted(processes) if one in SETTINGS_OF] or [Settings]
    said: dict[str, None] = {}
    for kind in kinds:
        try:
            kind()
        except ValidationError as error:
            said |= dict.fromkeys(problems_of(error))
    return [
        of_sentence(FindingSeverity.FAULT, "setting-invalid", problem)._replace(fix=_fix(problem))
        for problem in said
    ]


def unknown_settings(environment: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Names that are nearly a setting of ours, and are none."""
    known = {f"{ENV_PREFIX}{name}".upper() for kind in _ALL for name in kind.model_fields}
    for name in sorted(environment):
        if name.startswith(ENV_PREFIX) and name not in known:
            close = get_close_matches(name, known, 1, _ALIKE)
            if close:
                yield warning(
                    "setting-unknown",
                    f"nothing reads {name}; its value is ignored",
                    f"did you mean {close[0]}?",
                )


def _fix(problem: str) -> str:
    return f"correct {problem.partition(':')[0]} (docs/reference/settings.md)"
