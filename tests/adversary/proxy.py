"""`python -m tests.adversary.proxy`: the local stack's proxy, one function of its gateway broken if asked."""

from typing import Any

from aiohttp import TCPConnector

from spendmeter_local import proxy
from spendmeter_local.ports import LOOPBACK
from tests.adversary import mutations

PROVIDERS = ("api.openai.com", "api.anthropic.com")
"""LiteLLM meters a pass-through by the name of its host, so the upstream must be reached under these."""


def resolve_providers() -> None:
    """Let the providers' names mean this machine, in this process."""
    right = TCPConnector._resolve_host

    async def resolve(self: TCPConnector, host: str, *args: Any, **more: Any) -> Any:
        return await right(self, LOOPBACK if host in PROVIDERS else host, *args, **more)

    TCPConnector._resolve_host = resolve  # type: ignore[method-assign]


def main() -> None:
    """Serve until SIGTERM."""
    resolve_providers()
    serves = proxy.metered_app

    def mutated(settings: proxy.ProxySettings) -> Any:
        # Only now may LiteLLM be imported, and the gateway is not built yet.
        mutations.install()
        return serves(settings)

    vars(proxy)["metered_app"] = mutated
    proxy.main()


if __name__ == "__main__":
    main()
