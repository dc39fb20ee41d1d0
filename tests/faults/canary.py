"""The canary beside a run: `spendmeter canary` in a process of its own, and what it has printed.

Each of its requests has an id of its own, so that the oracle judges it as it judges every client's.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import patch

from spendmeter.cli.canary import command
from spendmeter.cli.canary.model import CanaryRound
from spendmeter.cli.canary.proxy import CanaryAnswer, CanaryProxy
from spendmeter.cli.printing import say
from tests.faults.ledger import Request, Requests
from tests.faults.stack import ROOT

MODEL = "gpt-4o-mini"
EVERY_SECONDS = 2
# More than any run can cost: money is not what is tried here.
MAX_USD_PER_DAY = "1000"


class PlayedRound(NamedTuple):
    """A round of the canary, and when it was over, in seconds since 1970."""

    found: CanaryRound
    ended: float

    @property
    def began(self) -> float:
        return self.found.at.timestamp()


class NamedRequests(CanaryProxy):
    """The proxy as the canary sees it. What is sent and what has ended is printed, each by its id."""

    def __init__(self, url: str, key: str, model: str, _: str | None = None) -> None:
        super().__init__(url, key, model)
        self._given = (url, key, model)
        self._numbers = count(1)

    def complete(self) -> CanaryAnswer:
        """Make one request, whose id is the `user` that it names."""
        request_id = f"canary-{os.getpid()}-{next(self._numbers)}"
        _print(sent=request_id)
        served = False
        try:
            answer = CanaryProxy(*self._given, request_id).complete()
            served = answer.refusal is None
            return answer
        finally:
            _print(ended=request_id, served=served)


class Canary:
    """The canary of one run. Ended before everything settles, and started again after it."""

    def __init__(self, directory: Path, key: str, requests: Requests) -> None:
        self._directory, self._key, self._requests = directory, key, requests
        self._process: asyncio.subprocess.Process | None = None
        self._may_play = asyncio.Event()
        self._may_play.set()
        self.rounds: list[PlayedRound] = []

    async def run(self) -> None:
        """Play until cancelled."""
        while True:
            await self._may_play.wait()
            await self._play()

    def pause(self) -> None:
        """Have it leave its budget paused, and end."""
        self._may_play.clear()
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def resume(self) -> None:
        self._may_play.set()

    @property
    def is_settled(self) -> bool:
        return self._process is None

    async def _play(self) -> None:
        arguments = ["--dir", str(self._directory), "--model", MODEL, "--every", str(EVERY_SECONDS), "--json"]
        arguments += ["--max-usd-per-day", MAX_USD_PER_DAY]
        with (self._directory / "canary.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.faults.canary", *arguments),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(ROOT), command.KEY_VARIABLE: self._key},
            )
        self._process = process
        assert process.stdout is not None
        try:
            async for line in process.stdout:
                self._take(json.loads(line))
            code = await process.wait()
        finally:
            self._process = None
            with contextlib.suppress(ProcessLookupError):
                process.kill()
        assert code == 0, f"the canary ended with {code}; see {log.name}"

    def _take(self, said: dict[str, Any]) -> None:
        if "sent" in said:
            request = Request(said["sent"], said["at"])
            self._requests.by_id[request.id] = request
        elif "ended" in said:
            request = self._requests.by_id[said["ended"]]
            request.ended_at, request.answered = said["at"], said["served"]
            self._requests.answered += request.answered
        elif "failed_at" in said:
            self.rounds.append(PlayedRound(CanaryRound.model_validate(said), time.time()))


def _print(**facts: object) -> None:
    say(json.dumps({**facts, "at": time.time()}))


if __name__ == "__main__":
    with patch.object(command, "CanaryProxy", NamedRequests):
        command.canary()
