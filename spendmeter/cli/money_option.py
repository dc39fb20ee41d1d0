"""The type of every option that takes money."""

from typing import Any

import click

from spendmeter.contract.money import InvalidAmount, NanoUsd, from_usd


class Cost(click.ParamType):
    """An amount of 0 or more, exact to the nano-dollar."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NanoUsd:
        try:
            amount = from_usd(value)
        except InvalidAmount as error:
            self.fail(str(error), param, ctx)
        if amount < 0:
            self.fail(f"{value} USD is below 0; `spendmeter void` takes a cost back", param, ctx)
        return amount


class Usd(click.ParamType):
    """An amount above 0, exact to the nano-dollar."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> NanoUsd:
        try:
            amount = from_usd(value)
        except InvalidAmount as error:
            self.fail(str(error), param, ctx)
        if amount <= 0:
            self.fail(
                f"{value} USD is not above 0; `spendmeter budget remove` takes a budget away", param, ctx
            )
        return amount
