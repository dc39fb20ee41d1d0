"""`spendmeter demo`: starts the local stack, plays a budget's story on it, and stops it."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

import spendmeter
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import say
from spendmeter.runtime.endpoints import Endpoints, StackDir, resolve_dir
from spendmeter_local.cli.stack import down, fetch
from spendmeter_local.proxy.config import SHIPPED_CONFIG
from spendmeter_local.stack.up import UpFailedError, start_detached, wait_for_running

STORY = Path(spendmeter.__file__).parents[1] / "examples" / "budget_demo.py"
STORY_WITHIN_SECONDS = 180


@click.command()
@dir_option
@click.option(
    "--keep",
    is_flag=True,
    help="Leave the stack, its page and the key; `spendmeter down` ends it.",
)
@json_option
@click.pass_context
def demo(context: click.Context, dir_: Path | None, keep: bool, as_json: bool) -> None:
    """Watch a budget being spent, refused, raised and served again, on a stack started for it.

    Without --dir and SPENDMETER_DIR the stack's data is deleted afterwards. A stack that already runs in DIR
    is used, and keeps running.
    """
    if not STORY.exists():
        raise click.ClickException(f"{STORY} is missing; run the demo from a checkout of the repository")
    kept = dir_ is not None or "SPENDMETER_DIR" in os.environ
    stack = resolve_dir(dir_) if kept else StackDir(Path(tempfile.mkdtemp(prefix="spendmeter-demo-")))
    context.invoke(fetch)
    begun = time.monotonic()
    running = wait_for_running(stack)
    try:
        endpoints = running or _up(stack, as_json)
        say(f"open {endpoints.web_url} to watch it on the page", err=True)
        code = _report(endpoints, as_json, keep)
    finally:
        if running is None and not keep:
            context.invoke(down, dir_=stack.path)
    if code:
        raise click.ClickException(f"the demo failed (exit {code}); logs are in {stack.path / 'logs'}")
    if keep:
        say(f"open {endpoints.web_url}", err=True)
        say(f"spendmeter down --dir {stack.path}   # ends it", err=True)
    elif not kept:
        shutil.rmtree(stack.path)
        say(f"removed {stack.path}; `spendmeter demo --dir DIR` keeps its data", err=True)
    say(f"the demo ran for {time.monotonic() - begun:.0f} s, including the stack's start and stop", err=True)


def _up(stack: StackDir, quiet: bool) -> Endpoints:
    report = (lambda _: None) if quiet else (lambda line: say(f"  {line}", err=True))
    arguments = ["--dir", str(stack.path), "--workers", "1", "--proxy-config", str(SHIPPED_CONFIG)]
    say("starting Kafka, ClickHouse, the stream, the sink and a LiteLLM proxy on 127.0.0.1", err=True)
    try:
        return start_detached(arguments, stack, report)
    except UpFailedError as error:
        raise click.ClickException(f"{error}; logs are in {stack.path / 'logs'}") from error


def _report(endpoints: Endpoints, as_json: bool, keep: bool) -> int:
    """Run the story as a client; returns its exit code."""
    command = [sys.executable, str(STORY), "--base-url", endpoints.proxy_url]
    command += ["--clickhouse-url", endpoints.clickhouse_url, *(["--json"] if as_json else [])]
    command += ["--keep-key"] if keep else []
    # In the environment, because every user of the machine can see arguments.
    environment = {
        **os.environ,
        "LITELLM_MASTER_KEY": endpoints.proxy_master_key,
        "CLICKHOUSE_PASSWORD": endpoints.clickhouse_password.get_secret_value(),
    }
    try:
        return subprocess.run(command, env=environment, timeout=STORY_WITHIN_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        raise click.ClickException(f"the demo did not end in {STORY_WITHIN_SECONDS} s") from None
