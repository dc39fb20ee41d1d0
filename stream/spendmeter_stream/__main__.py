"""`spendmeter stream`: one worker. Start as many as there are partitions; they share the work."""

import asyncio
import logging

from spendmeter.extras import needs

with needs("stream"):
    from faust import Worker

    from spendmeter.runtime import logs, metrics
    from spendmeter.runtime.process import ending_in_words
    from spendmeter.runtime.settings import load
    from spendmeter_stream.faust.app import make_app
    from spendmeter_stream.settings import StreamSettings
    from spendmeter_stream.topics import prepared


def main() -> None:
    settings = load(StreamSettings)
    logs.configure(settings)
    for chatty in ("faust", "mode", "spendmeter_stream.faust.app", "spendmeter_stream.faust.batch_consumer"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLogger().level))
    with ending_in_words(settings):
        metrics.serve(settings)
        metrics.READY.set(0)
        topics = asyncio.run(prepared(settings))
    worker = Worker(make_app(settings, topics), override_logging=False, loglevel=settings.log_level)
    worker.execute_from_commandline()


if __name__ == "__main__":
    main()
