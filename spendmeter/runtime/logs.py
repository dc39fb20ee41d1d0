"""Logging: one line an event, `time level component message key=value…`, to standard error."""

import logging
import sys
import time

from spendmeter.runtime.settings import Settings


def configure(settings: Settings) -> None:
    """Set up the root logger of a process of ours. A library (the callback) never calls this."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter(
            f"%(asctime)s.%(msecs)03dZ %(levelname)-7s {settings.component} %(name)s: %(message)s",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
    )
    logging.Formatter.converter = time.gmtime
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("aiokafka").setLevel("WARNING")
