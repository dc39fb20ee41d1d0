"""Which deployments of LiteLLM's router may serve a model, as free_requests.py wants them."""

from collections.abc import Sequence
from typing import Any

from spendmeter.prices.book import PriceBook
from spendmeter_gateway.litellm.models import deployment_by_id, deployments_of, model_of
from spendmeter_gateway.litellm.request.free_requests import Served
from spendmeter_gateway.model import Deployment


def served_by(router: Any, model_group: str, team: str | None, book: PriceBook | None) -> Sequence[Served]:
    """Every deployment that the router may send a request of that model to; empty without a router."""
    return [
        Served(model_of(router, one, model_group, book), one)
        for one in deployments_of(router, model_group, team)
    ]


def served_at(router: Any, deployment: Deployment, book: PriceBook | None) -> Sequence[Served]:
    """The deployment that a call goes to, as the router has it; the call's arguments may name other prices.

    Empty where the router has none of that id.
    """
    found = deployment_by_id(deployment.id)
    return [Served(model_of(router, found, deployment.model_group, book), found)] if found else []
