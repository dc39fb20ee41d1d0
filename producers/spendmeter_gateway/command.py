"""`spendmeter gateway-check`: would the callback work with this environment?"""

import asyncio

import click

from spendmeter.cli.printing import say
from spendmeter.kafka.errors import explained
from spendmeter.settings import load
from spendmeter.topics.check import check_topics
from spendmeter_gateway.checks import litellm_faults, outbox_faults
from spendmeter_gateway.gateway import WATCHED
from spendmeter_gateway.outbox.kafka import KafkaError
from spendmeter_gateway.settings import GatewaySettings


@click.command("gateway-check")
def gateway_check() -> None:
    """Check what the callback in a LiteLLM proxy needs: run it where the proxy runs.

    Checks the settings, LiteLLM's release, the outbox's folder, Kafka and its
    topics. Exits with 0 if all is well, else with 1 and a sentence for each fault.
    """
    settings = load(GatewaySettings)
    faults = [*litellm_faults(), *outbox_faults(settings.data_dir), *asyncio.run(_kafka(settings))]
    for fault in faults:
        say(f"fault: {fault}", err=True)
    if faults:
        raise click.exceptions.Exit(1)
    say(f"gateway {settings.gateway} can start: callbacks: spendmeter_gateway.callback")


async def _kafka(settings: GatewaySettings) -> list[str]:
    try:
        checked = await check_topics(settings, WATCHED, whatever_partitions=True)
    except KafkaError as error:
        return [await explained(error, settings)]
    return [finding.sentence for finding in checked.findings]
