"""LiteLLM's configuration: is the callback there and loadable, what would pass it, whose limits"
" are in force."""

from collections.abc import Iterator
from itertools import islice

from spendmeter_doctor.checks.gateway import release_of
from spendmeter_doctor.diagnosis import Diagnosis, fault, unchecked, warning
from spendmeter_doctor.litellm_config import (
    CALLBACK,
    FILE_CALLBACK,
    GENERAL,
    OLD_CALLBACK,
    OUR_CALLBACKS,
    ROUTER,
    SETTINGS,
    LitellmConfig,
)
from spendmeter_doctor.system import Process, System
from spendmeter_gateway.litellm.releases import LOADS_BY_NAME, why_refused

ATTACH = "spendmeter attach {name} --write"
_ELSEWHERE = ("success_callback", "failure_callback", "input_callback", "service_callback")
_LIMITS = (
    (SETTINGS, "max_budget"),
    (SETTINGS, "max_internal_user_budget"),
    (SETTINGS, "max_end_user_budget"),
    (SETTINGS, "max_end_user_budget_id"),
    (SETTINGS, "internal_user_budget_duration"),
    (SETTINGS, "default_internal_user_params", "max_budget"),
    (SETTINGS, "default_key_generate_params", "max_budget"),
    (SETTINGS, "default_team_params", "max_budget"),
    (ROUTER, "provider_budget_config"),
)
"""Where a configuration sets limits of LiteLLM's own; `import litellm --take-over` reaches only"
" its database."""
_SHOWN = 10


def check_litellm(system: System) -> list[Diagnosis]:
    """Everything that the configuration alone shows."""
    config = system.config
    if config is None:
        if Process.GATEWAY not in system.processes:
            return []
        said = "LiteLLM's configuration was not checked: none was named"
        return [unchecked("config-not-named", said, "`spendmeter doctor --litellm-config config.yaml`")]
    release = system.litellm_release
    known = None if release is None or why_refused(release) else release_of(release)
    return [*of_callback(config, known), *_of_traps(config), *of_limits(config), *_of_includes(config)]


def of_callback(config: LitellmConfig, release: tuple[int, int] | None) -> Iterator[Diagnosis]:
    """Whether LiteLLM finds our callback. `release`: of LiteLLM, if it is known."""
    named = [one for one in config.listed(SETTINGS, "callbacks") if one in OUR_CALLBACKS]
    at, attach = config.where(SETTINGS, "callbacks"), ATTACH.format(name=config.path.name)
    if not named:
        elsewhere = [name for name in _ELSEWHERE if set(config.listed(SETTINGS, name)) & set(OUR_CALLBACKS)]
        where = f"stands under {elsewhere[0]}, which only logs" if elsewhere else "is not in it"
        yield fault(
            "callback-missing",
            f"{at}: the callback {where}: nothing is metered, nobody is refused",
            f"`litellm_settings: {{callbacks: {CALLBACK}}}`: `{attach}`",
        )
        return
    if len(named) > 1:
        yield fault(
            "callback-twice",
            f"{at}: the callback is named {len(named)} times",
            f"keep `callbacks: {CALLBACK}`",
        )
    one = named[0]
    if one == OLD_CALLBACK:
        yield warning(
            "callback-old-name",
            f"{at}: {one} is a name of before, and goes with the next release",
            f"`callbacks: {CALLBACK}`",
        )
    if one == CALLBACK and release is not None and release < release_of(LOADS_BY_NAME):
        yield fault(
            "callback-not-loadable",
            f"{at}: LiteLLM before {LOADS_BY_NAME} loads a callback only from a file beside its"
            " configuration",
            "put `from spendmeter_gateway import callback` into"
            f" {FILE_CALLBACK.partition('.')[0]}.py there, and"
            f" `callbacks: {FILE_CALLBACK}`",
        )
    yield from _of_files(config, one, at)


def _of_files(config: LitellmConfig, named: str, at: str) -> Iterator[Diagnosis]:
    """LiteLLM prefers a file beside the configuration to what is installed."""
    file = config.path.parent.joinpath(*named.split(".")[:-1]).with_suffix(".py")
    if named == FILE_CALLBACK:
        if not file.exists() or "spendmeter_gateway" not in file.read_text(
            encoding="utf-8", errors="replace"
        ):
            yield fault(
                "callback-not-loadable",
                f"{at} names {file.name}, and beside it there is no such file that imports the callback",
                f"put `from spendmeter_gateway import callback` into {file}",
            )
    elif file.exists():
        yield fault(
            "callback-shadowed",
            f"LiteLLM loads {file} for {named}, not what is installed",
            "move the configuration into a folder of its own",
        )


def _of_traps(config: LitellmConfig) -> Iterator[Diagnosis]:
    if config.get(SETTINGS, "global_disable_no_log_param") is not True:
        yield warning(
            "no-log",
            f'{config.where(SETTINGS)}: with `"no-log": true` in its body a request would be hidden'
            " from callbacks",
            "`litellm_settings: {global_disable_no_log_param: true}`"
            f": `{ATTACH.format(name=config.path.name)}`",
        )
    if config.get(SETTINGS, "turn_off_message_logging") is True:
        yield warning(
            "message-logging",
            f"{config.where(SETTINGS, 'turn_off_message_logging')}: LiteLLM hides texts from every"
            " callback: where a"
            " provider reports no usage, an estimate from texts is too low",
            "leave `turn_off_message_logging` out: prompts and answers never leave the proxy"
            " through spendmeter",
        )
    if config.get(GENERAL, "always_include_stream_usage") is False:
        yield warning(
            "stream-usage",
            f"{config.where(GENERAL, 'always_include_stream_usage')}: streams that do not ask for"
            " their usage are"
            " estimated",
            "leave `always_include_stream_usage` out",
        )


def of_limits(config: LitellmConfig) -> Iterator[Diagnosis]:
    found = [path for path in _LIMITS if config.get(*path) not in (None, 0, {}, [])]
    deployments = [one for one in config.deployments() if one.fields.get("max_budget")]
    shown = [f"{config.where(*path)} ({path[-1]})" for path in found]
    shown += [
        f"{config.path.name}:{one.line} (max_budget of {one.name})" for one in islice(deployments, _SHOWN)
    ]
    if shown:
        yield warning(
            "native-limit-in-config",
            "LiteLLM's own limits are armed in its configuration, and refuse by LiteLLM's count:"
            f" {', '.join(shown)}",
            "set the same as a budget (docs/budgets.md), then remove these lines",
        )


def _of_includes(config: LitellmConfig) -> Iterator[Diagnosis]:
    if config.get("include"):
        yield unchecked(
            "config-includes",
            f"{config.where('include')}: included files were not checked",
            "check each by itself: `spendmeter doctor --litellm-config FILE`",
        )
