"""`python -m stream`: one worker. Start as many as there are partitions; they share the work."""

import asyncio
import logging

from faust import Worker

from spendmeter.runtime import logs, metrics
from spendmeter.runtime.create_topics import create
from spendmeter.runtime.settings import load
from stream.app import make_app
from stream.settings import StreamSettings
from stream.storing import JUDGE_TABLE, METER_TABLE

# A tombstone must outlive every worker that may still have to read it; values are small and many.
_CHANGELOG = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.1", "segment.ms": "21600000"}


def main() -> None:
    settings = load(StreamSettings)
    logs.configure(settings)
    for chatty in ("faust", "mode", "stream.app", "stream.drain"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    metrics.serve(settings)
    changelogs = {
        settings.changelog(t): (settings.partitions, _CHANGELOG) for t in (METER_TABLE, JUDGE_TABLE)
    }
    asyncio.run(create(settings, changelogs))
    Worker(make_app(settings), override_logging=False, loglevel=settings.log_level).execute_from_commandline()


if __name__ == "__main__":
    main()
