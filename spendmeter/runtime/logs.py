"""Logging: one line per event, `time level component message key=value…`, to standard error."""

import logging
import sys
import time

from spendmeter.settings import Settings
from spendmeter.visible import visible


class _VisibleFormatter(logging.Formatter):
    """Escapes characters in data that would act on a terminal or forge a log line."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        record.message = visible(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802
        return visible(super().formatException(ei), keep="\n")  # type: ignore[arg-type]


def configure(settings: Settings) -> None:
    """Set up the root logger of a process of ours. A library (the callback) never calls this."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _VisibleFormatter(
            f"%(asctime)s.%(msecs)03dZ %(levelname)-7s {settings.component} %(name)s: %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
    )
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("aiokafka").setLevel("WARNING")
