"""Whether limits of LiteLLM's own are still in force in its database, by the running proxy's own account."""

from collections import Counter

from spendmeter.litellm.api import LitellmApi, NotAnswered
from spendmeter.litellm.rows import Owned, read_litellm
from spendmeter.litellm.whole_import import taking_over
from spendmeter_doctor.diagnosis import Diagnosis, fault, unchecked, warning
from spendmeter_doctor.system import Process, System


def check_take_over(system: System) -> list[Diagnosis]:
    """Whether `import litellm --take-over` has been done."""
    if Process.GATEWAY not in system.processes:
        return []
    if system.litellm is None:
        said = "whether limits in LiteLLM's database are still armed was not checked: no proxy was named"
        fix = "set SPENDMETER_PROXY_URL and SPENDMETER_MASTER_KEY, or `spendmeter doctor --url … --api-key …`"
        return [unchecked("take-over-not-named", said, fix)]
    try:
        found, unread = read_litellm(LitellmApi(system.litellm.url, system.litellm.api_key), "UTC")
    except NotAnswered as error:
        said = f"the limits in LiteLLM's database were not checked ({error})"
        return [fault("litellm-unusable", said, "correct SPENDMETER_PROXY_URL or SPENDMETER_MASTER_KEY")]
    return [*_armed(found), *_unread(unread)]


def _armed(found: list[Owned]) -> list[Diagnosis]:
    kinds = Counter(owned.seen.kind for owned in found if taking_over(owned) is not None)
    if not kinds:
        return []
    counted = ", ".join(f"{many} of kind {kind}" for kind, many in sorted(kinds.items()))
    return [
        warning(
            "native-limits-armed",
            f"LiteLLM's own limits still refuse beside ours ({counted}), by LiteLLM's count",
            "`spendmeter import litellm --take-over` shows what it would move aside; `--apply`"
            " does, `--undo` restores",
        )
    ]


def _unread(unread: list[str]) -> list[Diagnosis]:
    if not unread:
        return []
    said = f"of LiteLLM's limits these could not be read: {'; '.join(unread)}"
    return [
        unchecked("take-over-unread", said, "an enterprise feature, or another release: see `import litellm`")
    ]
