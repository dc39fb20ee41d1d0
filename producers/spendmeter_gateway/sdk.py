"""Budgets for a program that uses LiteLLM without a proxy (docs/waiting.md).

from spendmeter_gateway import sdk

meter = sdk.attach()
"""

from spendmeter_gateway.litellm.sdk import SpendmeterSdk, attach, subject
from spendmeter_gateway.litellm.sdk_calls import BudgetRefused

__all__ = ["BudgetRefused", "SpendmeterSdk", "attach", "subject"]
