"""This machine's clock beside another's. Pure."""

from spendmeter_doctor.diagnosis import Diagnosis, fault, warning

WARN_SECONDS = 5.0
FAULT_SECONDS = 300.0


def of_clock(whose: str, code: str, theirs: float, before: float, after: float) -> list[Diagnosis]:
    """What to say of a clock that showed `theirs` at some moment between `before` and `after` here.

    All in seconds since 1970. What the answer's way may have cost is not held against anybody.
    """
    apart = before - theirs if theirs < before else max(0.0, theirs - after)
    if apart < WARN_SECONDS:
        return []
    here = "ahead of" if theirs < before else "behind"
    make = fault if apart >= FAULT_SECONDS else warning
    return [
        make(
            code,
            f"this machine's clock is {apart:,.0f} s {here} that of {whose}: windows begin and end"
            " at the wrong"
            " moment, and events of an hour ahead become dead letters",
            "set both by NTP: `timedatectl set-ntp true`",
        )
    ]
