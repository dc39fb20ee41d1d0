"""`spendmeter move`: prints its plan; `--apply` carries it out."""

import asyncio
from dataclasses import asdict
from pathlib import Path

import click

from spendmeter.cli.connection import cluster_settings
from spendmeter.cli.options import dir_option, json_option
from spendmeter.cli.printing import print_json, say_lines
from spendmeter.client import who
from spendmeter.kafka.client import KafkaError
from spendmeter.kafka.errors import explained
from spendmeter.runtime import clickhouse
from spendmeter.settings import MAX_PARTITIONS, ClickHouseSettings
from spendmeter_sinks.move.plan import CannotMove, MovePlan
from spendmeter_sinks.move.run import Move

QUERY_WITHIN_SECONDS = 600


@click.command()
@dir_option
@json_option
@click.option("--to-prefix", help="Prefix of the new topics.  [default: that of the settings]")
@click.option("--to-bootstrap", help="Kafka of the new topics, host:port.  [default: that of the settings]")
@click.option(
    "--partitions", type=click.IntRange(1, MAX_PARTITIONS), help="Of new topics.  [default: of the settings]"
)
@click.option("--replication", type=click.IntRange(1, 15), help="Of new topics.  [default: of the settings]")
@click.option(
    "--from", "chosen", metavar="TOPIC", help="The topic to follow, if history belongs to several systems."
)
@click.option("--apply", "do_it", is_flag=True, help="Carry the plan out.")
def move(
    dir_: Path | None,
    as_json: bool,
    to_prefix: str | None,
    to_bootstrap: str | None,
    partitions: int | None,
    replication: int | None,
    chosen: str | None,
    do_it: bool,
) -> None:
    """Continue under another prefix, on another Kafka or with more partitions; every account keeps its spend.

    The settings describe the present system, the options the new one. Without options, the topics of the
    settings continue the system in history. Gateways may write to the old topics until all have moved. Prints
    the plan; nothing is done without --apply. Exit 0: planned or done, 1: impossible.
    """
    source = cluster_settings(dir_)
    given = {
        "topic_prefix": to_prefix,
        "kafka_bootstrap": to_bootstrap,
        "partitions": partitions,
        "replication": replication,
    }
    fields = source.model_dump() | {name: value for name, value in given.items() if value is not None}
    try:
        target = ClickHouseSettings.model_validate(fields)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
    planned = _run(source, target, chosen, do_it=do_it)
    if as_json:
        return print_json({"applied": do_it, **asdict(planned)})
    return say_lines("\n".join(render(planned, target, is_done=do_it)))


def _run(
    source: ClickHouseSettings, target: ClickHouseSettings, chosen: str | None, *, do_it: bool
) -> MovePlan:
    async def work() -> MovePlan:
        moving = Move(source, target, client, chosen)
        planned = await moving.plan()
        if do_it:
            await moving.apply(planned, who())
        return planned

    try:
        with clickhouse.raising_unusable(target):
            client = clickhouse.client(
                target,
                database=target.clickhouse_database,
                send_receive_timeout=QUERY_WITHIN_SECONDS,
                compress="lz4",
            )
            try:
                return asyncio.run(work())
            finally:
                client.close()
    except (CannotMove, clickhouse.Unusable) as error:
        raise click.ClickException(f"cannot move: {error}") from None
    except KafkaError as error:
        raise click.ClickException(f"cannot move: {asyncio.run(explained(error, target))}") from None


def render(planned: MovePlan, target: ClickHouseSettings, *, is_done: bool) -> list[str]:
    """The plan, as people read it."""
    lines = [
        f"from   {planned.source or planned.follows}"
        + ("" if planned.source else "; read from history only, not from its Kafka"),
        f"to     {planned.target}",
        f"history {planned.database}: accounts of {planned.target.usage.topic} open with everything that it"
        f" holds of {planned.follows} and of the topics that this one followed",
        "",
    ]
    steps = []
    if planned.topics:
        steps.append(f"create {len(planned.topics)} topics: {', '.join(planned.topics)}")
    if planned.objects:
        steps.append(f"copy the makers of {planned.objects} objects")
    if planned.budgets:
        steps.append(f"copy {len(planned.budgets)} budgets from {planned.budgets_from}")
    steps += [f"note that rows of {one.of} belong to it" for one in planned.entries]
    if not planned.is_registered:
        steps.append(f"note that {planned.target.usage.topic} follows {planned.follows}")
    mark = "done" if is_done else "plan"
    numbered = [f"{mark} {number}. {step}" for number, step in enumerate(steps, 1)]
    lines += numbered or ["nothing is left to do"]
    lines += [f"note   {warning}" for warning in planned.warnings]
    if planned.behind is not None:
        lines.append(f"note   history still lacks {planned.behind} records of {planned.follows.topic}")
    settings = (
        f"SPENDMETER_TOPIC_PREFIX={target.topic_prefix} SPENDMETER_PARTITIONS={planned.target.partitions}"
    )
    lines += [
        "",
        "then   start stream workers and a sink with"
        f" {settings} SPENDMETER_KAFKA_BOOTSTRAP={target.kafka_bootstrap};",
        "       restart the gateways with the same, one at a time;",
        "       leave the old sink running until this command says that history lacks 0 records, then stop"
        " the old processes",
    ]
    if not is_done and not planned.is_done:
        lines += ["", "nothing was done: --apply does it"]
    return lines
