"""Starts a stack's components in order, keeps them running, and stops them in reverse.

There is one thread: it starts every child, and Linux ends the children with the thread that started them.
"""

import contextlib
import os
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import FrameType

from pydantic import SecretStr

from spendmeter.runtime.endpoints import Endpoints, StackDir, write_endpoints
from spendmeter.runtime.stack_status import StackStatus, write_status
from spendmeter_local.children import kill_child, rotate, start_child
from spendmeter_local.stack.components import Declaration, StackComponent, Stage, Step
from spendmeter_local.stack.supervised_process import SupervisedProcess, render_exit_code

TICK_SECONDS = 0.1
MAX_EXITS_WHILE_STARTING = 3
WRONG_CONFIGURATION = 2  # the exit code with which our processes refuse their settings
TAIL_LINES = 15

Say = Callable[[str], None]


class NotReadyError(RuntimeError):
    """A component or step did not become ready; the message says why and shows the end of its log."""


class StopRequested(Exception):
    """SIGINT, SIGTERM or SIGHUP came while starting."""


class Supervisor:
    """Runs one stack in the foreground of this process."""

    def __init__(self, stack: StackDir, declaration: Declaration, say: Say) -> None:
        self._stack = stack
        self._declaration = declaration
        self._say_to_human = say
        self._members: list[SupervisedProcess] = []
        self._ready = False
        self._stop_signals = 0

    def run(self, on_ready: Callable[[Endpoints], None] = lambda endpoints: None) -> int:
        """Start, call `on_ready` once, supervise until a signal comes, stop. The exit code.

        Raises AlreadyRunningError if another supervisor holds the directory.
        """
        with self._stack.hold():
            self._stack.endpoints.unlink(missing_ok=True)
            self._stack.log("supervisor").parent.mkdir(exist_ok=True)
            rotate(self._stack.log("supervisor"))
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, self._on_signal)
            try:
                self._start_all()
                self._ready = True
                self._publish()
                on_ready(self._endpoints())
                while not self._stop_signals:
                    self._tick()
            except StopRequested:
                pass
            except NotReadyError as problem:
                self._say(str(problem))
                return 1
            finally:
                self._stop_all()
            return 0

    def _start_all(self) -> None:
        begun = time.monotonic()
        for stage in self._declaration.stages:
            self._start(stage)
        self._say(f"{'ready':<16} in {time.monotonic() - begun:.1f} s")

    def _start(self, stage: Stage) -> None:
        members = [SupervisedProcess(item, self._stack) for item in stage if isinstance(item, StackComponent)]
        for member in members:
            self._members.append(member)
            try:
                member.start()
            except (OSError, RuntimeError) as error:
                raise NotReadyError(f"{member.name} cannot start: {error}") from error
        self._publish()
        begun = time.monotonic()
        self._run_steps([item for item in stage if isinstance(item, Step)])
        while not all(member.state == "ready" for member in members):
            for member in members:
                self._check_start(member, time.monotonic() - begun)
            self._tick()
            if self._stop_signals:
                raise StopRequested

    def _check_start(self, member: SupervisedProcess, seconds: float) -> None:
        if member.state == "ready":
            return
        if member.exit_code == WRONG_CONFIGURATION or member.restarts >= MAX_EXITS_WHILE_STARTING:
            raise NotReadyError(self._failure(member.name, f"did not start: {member.last_exit}"))
        if seconds > member.component.ready_within_seconds:
            raise NotReadyError(self._failure(member.name, f"is not ready after {seconds:.0f} s"))

    def _run_steps(self, steps: Sequence[Step]) -> None:
        begun = time.monotonic()
        running = [
            (step, start_child(step.command, log=self._stack.log(step.name), env=step.env)) for step in steps
        ]
        try:
            for step, process in running:
                while (code := process.poll()) is None:
                    self._tick()
                    if self._stop_signals:
                        raise StopRequested
                    if time.monotonic() - begun > step.within_seconds:
                        raise NotReadyError(
                            self._failure(step.name, f"has not ended after {step.within_seconds} s")
                        )
                if code:
                    raise NotReadyError(self._failure(step.name, f"failed: {render_exit_code(code)}"))
                self._say(f"{step.name:<16} done in {time.monotonic() - begun:.1f} s")
        finally:
            for _, process in running:
                kill_child(process)

    def _tick(self) -> None:
        """Check every component once, act on changes, then sleep."""
        changed = False
        for member in self._members:
            if member.notice_exit():
                wait = max(0.0, member.start_again_at - time.monotonic())
                self._say(f"{member.name:<16} ended ({member.last_exit}), starts again in {wait:.1f} s")
                changed = True
            changed |= self._start_again(member)
            began = member.since
            if member.notice_ready():
                again = " again" if member.restarts else ""
                self._say(f"{member.name:<16} ready{again} in {member.since - began:.1f} s")
                changed = True
        if changed:
            self._publish()
        time.sleep(TICK_SECONDS)

    def _start_again(self, member: SupervisedProcess) -> bool:
        try:
            return member.start_again_if_due()
        except (OSError, RuntimeError) as error:
            self._say(f"{member.name:<16} cannot start: {error}")
            member.start_again_at = time.monotonic() + member.backoff_seconds
            return True

    def _stop_all(self) -> None:
        self._ready = False
        self._publish()
        self._stack.endpoints.unlink(missing_ok=True)
        begun = time.monotonic()
        by_name = {member.name: member for member in self._members}
        for stage in reversed(self._declaration.stages):
            stopping = [by_name[item.name] for item in reversed(stage) if item.name in by_name]
            for member in stopping:
                member.ask_to_stop()
            for member in stopping:
                # A second signal means: do not wait.
                if not member.finish_stopping(at_once=self._stop_signals > 1):
                    self._say(f"{member.name:<16} did not stop in time, killed")
        self._publish(running=False)
        self._say(f"{'stopped':<16} in {time.monotonic() - begun:.1f} s")

    def _publish(self, *, running: bool = True) -> None:
        # Before the status: whoever reads there that the stack is ready must find the endpoints.
        if self._ready:
            write_endpoints(self._stack, self._endpoints())
        write_status(
            self._stack,
            StackStatus(
                running=running,
                ready=self._ready,
                supervisor_pid=os.getpid() if running else None,
                components={member.name: member.status() for member in self._members},
            ),
        )

    def _endpoints(self) -> Endpoints:
        declared = self._declaration
        pids = {member.name: member.process.pid for member in self._members if member.process}
        return Endpoints(
            kafka_bootstrap=declared.kafka_bootstrap,
            clickhouse_url=declared.clickhouse_url,
            clickhouse_password=SecretStr(declared.clickhouse_password),
            proxy_url=declared.proxy_url,
            proxy_master_key=declared.master_key,
            upstream_url=declared.upstream_url,
            web_url=declared.web_url,
            metrics={item.name: item.metrics_url for item in declared.components if item.metrics_url},
            pids={**pids, "supervisor": os.getpid()},
        )

    def _failure(self, name: str, what: str) -> str:
        log = self._stack.log(name)
        lines = log.read_text(errors="replace").splitlines()[-TAIL_LINES:] if log.exists() else []
        return "\n".join([f"{name:<16} {what}; the end of {log}:", *(f"    {line}" for line in lines)])

    def _say(self, line: str) -> None:
        with self._stack.log("supervisor").open("a", encoding="utf-8") as log:
            log.write(f"{datetime.now(UTC).isoformat(timespec='milliseconds')} {line}\n")
        # The terminal may be gone; the stack keeps running.
        with contextlib.suppress(OSError, ValueError):
            self._say_to_human(line)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self._stop_signals += 1
