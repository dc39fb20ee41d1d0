"""`python -m tests.adversary.proxy`: the local stack's proxy, one function of its gateway broken if asked."""

from typing import Any

from aiohttp import TCPConnector

from spendmeter_local.ports import LOOPBACK
from spendmeter_local.proxy import __main__ as process
from spendmeter_local.proxy.app import ProxySettings, metered_app
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

    def mutated(settings: ProxySettings) -> Any:
        # Only now may LiteLLM be imported, and the gateway is not built yet.
        mutations.install()
        return metered_app(settings)

    vars(process)["metered_app"] = mutated
    process.main()


if __name__ == "__main__":
    main()
