"""Has a release of ours write one of everything it writes, and keeps it: `make.py DIR`, run by that release.

From the folder of a checkout of the release, after `make install` there:

    .venv/bin/python path/to/tests/versions/golden/make.py path/to/tests/versions/golden/0.1.0

Starts the release's own local stack and drives it by its own commands and by its proxy. `DIR` then has
`kafka.jsonl` (every record of every topic, changelogs too), `offsets.json` (what the groups had
committed), `clickhouse.jsonl` (every row of every table), `outbox/` (of a gateway that never reached
Kafka).
"""

import asyncio
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

PREFIX = "earlier."
GROUPS = ("spend-stream", "spend-clickhouse-sink")
WITHIN_SECONDS = 120
UNSENT = 3
EXACTLY = "SETTINGS output_format_json_quote_decimals = 1"

FIRST_BUDGETS = """\
budgets:
  - {id: everything, match: {}, limit_usd: "100", period: lifetime, warn_at: [0.5, 0.8]}
  - {id: per-key, match: {key: "*"}, limit_usd: "1", period: lifetime}
  - {id: per-model, match: {model: "*"}, limit_usd: "5", period: lifetime}
  - {id: one-model, match: {model: openai/gpt-4o-mini}, limit_usd: "5", period: lifetime}
  - {id: some-models, match: {model_group: "gpt-4o*"}, limit_usd: "5", period: lifetime}
  - {id: ann-daily, match: {user: ann}, limit_usd: "0.0001", period: day, timezone: Europe/Vienna,
     warn_at: [0.5], action: warn}
  - {id: by-tag, match: {tag: "*"}, limit_usd: "5", period: "month:15", unpriced: "0.001"}
  - {id: careful, match: {user: bob}, limit_usd: "1", period: lifetime, enforcement: strict}
  - {id: short-lived, match: {user: nobody}, limit_usd: "1", period: hour}
"""
LATE_BUDGETS = (
    FIRST_BUDGETS
    + """\
  - {id: late, match: {user: "*"}, limit_usd: "1", period: lifetime}
"""
)


class Stack:
    """The release's local stack, and its commands."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {
            **os.environ,
            "SPENDMETER_DIR": str(folder / "stack"),
            "SPENDMETER_TOPIC_PREFIX": PREFIX,
            "SPENDMETER_PARTITIONS": "2",
            "SPENDMETER_GATEWAY": "g1",
            "LOGNAME": "ops",
        }
        self.at: dict[str, Any] = {}

    def call(self, *command: str) -> "subprocess.CompletedProcess[str]":
        """Its command `spendmeter …`."""
        return subprocess.run(
            [str(Path(sys.executable).with_name("spendmeter")), *command],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=WITHIN_SECONDS,
        )

    def run(self, *command: str) -> str:
        """The same; returns what it printed."""
        ended = self.call(*command)
        if ended.returncode:
            raise SystemExit(f"{' '.join(command)}: {ended.returncode}\n{ended.stdout}\n{ended.stderr}")
        return ended.stdout

    def apply(self, budgets: str) -> None:
        file = self.folder / "budgets.yaml"
        file.write_text(budgets)
        self.run("budget", "apply", str(file))

    def post(self, path: str, key: str, body: dict[str, Any]) -> tuple[int, str]:
        """To the proxy."""
        request = urllib.request.Request(
            self.at["proxy_url"] + path,
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def key(self, **fields: Any) -> str:
        status, answer = self.post("/key/generate", self.at["proxy_master_key"], fields)
        assert status == 200, answer
        return str(json.loads(answer)["key"])

    def rows(self, sql: str) -> list[dict[str, Any]]:
        url = f"{self.at['clickhouse_url']}/?{urllib.parse.urlencode({'database': 'spend', 'query': sql})}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return [json.loads(line) for line in answer.read().decode().splitlines()]


def chat(model: str, **more: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "[[in=40 out=20]] Hello"}], **more}


def until(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within {WITHIN_SECONDS} s: {what}")
        time.sleep(0.2)


def live_through(stack: Stack) -> None:
    """Traffic, refusals, changes of budgets, corrections, a late budget, garbage and a resend."""
    completions = "/v1/chat/completions"
    stack.apply(FIRST_BUDGETS)
    ann = stack.key(key_alias="ann-1", user_id="ann", team_id="research", metadata={"tags": ["nightly"]})
    bob = stack.key(key_alias="bob-1", user_id="bob")
    small = stack.key(key_alias="small", user_id="carl", max_budget=0.00002)
    for model in ("gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "self-hosted-llama", "unpriced-experiment"):
        assert stack.post(completions, ann, chat(model))[0] == 200
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    assert stack.post(completions, ann, chat("gpt-4o-mini", user="end-1", **streamed))[0] == 200
    assert stack.post(completions, bob, chat("gpt-4o-mini", max_tokens=50))[0] == 200
    assert (
        stack.post("/v1/embeddings", bob, {"model": "text-embedding-3-small", "input": "[[in=9]]"})[0] == 200
    )
    until("a refusal", lambda: stack.post(completions, small, chat("gpt-4o-mini"))[0] != 200)

    def in_history() -> int:
        return int(stack.rows("SELECT count() AS n FROM usage FINAL FORMAT JSONEachRow")[0]["n"])

    until("history", lambda: in_history() >= 9)
    first, second = stack.rows(
        "SELECT event_id FROM usage FINAL WHERE key_alias = 'ann-1' AND cost_usd > 0"
        " ORDER BY event_id LIMIT 2 FORMAT JSONEachRow"
    )
    stack.run("correct", str(first["event_id"]), "--cost-usd", "0.000123456", "--reason", "a credit note")
    stack.run("void", str(second["event_id"]), "--reason", "an outage")
    stack.run("budget", "set", "per-key", "--limit-usd", "2")
    stack.run("budget", "raise", "everything", "--usd", "5", "--for", "30d")
    stack.run("budget", "pause", "careful")
    stack.run("budget", "resume", "careful")
    stack.run("budget", "reset", "ann-daily")
    stack.run("budget", "remove", "short-lived")
    stack.apply(LATE_BUDGETS.replace(", period: hour}", ", period: hour, action: observe}"))
    asyncio.run(disturb(stack.at["kafka_bootstrap"]))
    assert stack.post(completions, ann, chat("gpt-4o"))[0] == 200
    until("the opening balance", lambda: is_opened(stack))
    until("equal sums", lambda: stack.call("reconcile", "--json").returncode == 0)


def is_opened(stack: Stack) -> bool:
    accounts = json.loads(stack.run("budget", "show", "late", "--json"))["accounts"]
    return len(accounts) >= 2 and not any(account.get("opening") for account in accounts)


async def disturb(bootstrap: str) -> None:
    """One record that nobody can read, and one that is a resend."""
    (first, *_), _ = await read(bootstrap, ["spend.usage"])
    async with AIOKafkaProducer(bootstrap_servers=bootstrap) as kafka:
        await kafka.send_and_wait(f"{PREFIX}spend.usage", b"{not json", key=b"k", partition=0)
        await kafka.send_and_wait(
            f"{PREFIX}spend.usage",
            _bytes(first["value"]),
            key=_bytes(first["key"]),
            headers=[(name, _bytes(value)) for name, value in first["headers"]],
            partition=first["partition"],
        )


async def read(bootstrap: str, only: list[str] | None = None) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Every record of the topics under the prefix, and what each group has committed."""
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await consumer.start()
    await admin.start()
    records: list[dict[str, Any]] = []
    try:
        wanted = sorted(t for t in await admin.list_topics() if t.startswith(PREFIX))
        for described in await admin.describe_topics(wanted):
            topic = described["topic"]
            name = topic.removeprefix(PREFIX)
            if only is not None and name not in only:
                continue
            numbers = sorted(partition["partition"] for partition in described["partitions"])
            partitions = [TopicPartition(topic, number) for number in numbers]
            consumer.assign(partitions)
            ends = await consumer.end_offsets(partitions)
            for partition in partitions:
                consumer.assign([partition])
                await consumer.seek_to_beginning(partition)
                while await consumer.position(partition) < ends[partition]:
                    for found in (await consumer.getmany(timeout_ms=500)).values():
                        records += [_record(name, record) for record in found]
        committed = {
            group: {
                f"{tp.topic.removeprefix(PREFIX)}:{tp.partition}": offset.offset
                for tp, offset in (await admin.list_consumer_group_offsets(PREFIX + group)).items()
            }
            for group in GROUPS
        }
        return records, committed
    finally:
        await consumer.stop()
        await admin.close()


def _record(topic: str, record: Any) -> dict[str, Any]:
    return {
        "topic": topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": _text(record.key),
        "value": _text(record.value),
        "headers": [[name, _text(value)] for name, value in record.headers],
    }


def _text(content: bytes | None) -> str | None:
    """As text where it is some, else as base64 behind a zero."""
    if content is None:
        return None
    try:
        return content.decode()
    except UnicodeDecodeError:
        return "\0" + base64.b64encode(content).decode()


def _bytes(text: str | None) -> bytes | None:
    if text is None:
        return None
    return base64.b64decode(text[1:]) if text.startswith("\0") else text.encode()


def leave_an_outbox(folder: Path) -> None:
    """Events of a gateway that reaches no Kafka, in the outbox that it leaves."""
    code = f"""
import uuid
from datetime import UTC, datetime
from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.model import UsageDraft
from spendmeter_gateway.settings import GatewaySettings
from spendmeter.contract.usage import CostSource
gateway = Gateway(GatewaySettings())
gateway.start()
for number in range({UNSENT}):
    now = datetime.now(UTC)
    assert gateway.record(UsageDraft({{
        "event_id": uuid.UUID(f"01a0d000-0000-7000-8000-00000000000{{number}}"), "occurred_at": now,
        "started_at": now, "key": "k-unsent", "model": "gpt-4o", "model_group": "gpt-4o",
        "cost_nanousd": 1_000_003 + number, "cost_source": CostSource.LITELLM}}))
gateway.stop()
"""
    env = {
        **os.environ,
        "SPENDMETER_DATA_DIR": str(folder),
        "SPENDMETER_GATEWAY": "g2",
        "SPENDMETER_KAFKA_BOOTSTRAP": "127.0.0.1:1",
        "SPENDMETER_DRAIN_SECONDS": "0",
    }
    subprocess.run([sys.executable, "-c", code], env=env, check=True, timeout=WITHIN_SECONDS)


def write_lines(file: Path, values: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


def main() -> None:
    out = Path(sys.argv[1]).absolute()
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as folder:
        stack = Stack(Path(folder))
        stack.run("up", "--detach")
        try:
            stack.at = json.loads((Path(folder) / "stack" / "endpoints.json").read_text())
            live_through(stack)
            records, committed = asyncio.run(read(stack.at["kafka_bootstrap"]))
            tables = stack.rows(
                "SELECT name FROM system.tables WHERE database = 'spend' AND engine LIKE '%MergeTree'"
                " ORDER BY name FORMAT JSONEachRow"
            )
            rows = [
                {"table": table["name"], "row": row}
                for table in tables
                for row in stack.rows(f"SELECT * FROM {table['name']} {EXACTLY} FORMAT JSONEachRow")
            ]
        finally:
            stack.run("down")
    write_lines(out / "kafka.jsonl", records)
    write_lines(out / "clickhouse.jsonl", rows)
    (out / "offsets.json").write_text(json.dumps(committed, indent=1) + "\n")
    leave_an_outbox(out / "outbox")


if __name__ == "__main__":
    main()
