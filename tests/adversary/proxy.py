"""`python -m tests.adversary.proxy`: the local stack's proxy, with one function of the gateway broken if asked."""

from typing import Any

from spendmeter.local import proxy
from tests.adversary import mutations


def main() -> None:
    """Serve until SIGTERM."""
    serves = proxy.metered_app

    def mutated(settings: proxy.ProxySettings) -> Any:
        # Only now may LiteLLM be imported, and the gateway is not built yet.
        mutations.install()
        return serves(settings)

    vars(proxy)["metered_app"] = mutated
    proxy.main()


if __name__ == "__main__":
    main()
