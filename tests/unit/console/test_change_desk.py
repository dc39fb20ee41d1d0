"""A change is carried out once, or says what is known of it."""

import asyncio

import pytest

from spendmeter.client import SpendmeterClient
from spendmeter.settings import Settings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter_console.access.forms import Form
from spendmeter_console.changes.desk import ChangeDesk, ChangeUncertain
from spendmeter_local.ports import free_port


def test_where_kafka_does_not_answer_nothing_was_changed() -> None:
    settings = Settings(kafka_bootstrap=f"127.0.0.1:{free_port()}")

    async def work(client: SpendmeterClient) -> str:
        raise AssertionError("nobody is there to write to")

    async def run() -> str:
        desk = ChangeDesk(settings, BudgetTopic(settings))
        with pytest.raises(ChangeUncertain, match="nothing was changed"):
            await desk.carry_out(Form("ann", "n"), "pause b", "ann", work)
        return desk.sentence("ann", "n")

    assert asyncio.run(run()) == ""
