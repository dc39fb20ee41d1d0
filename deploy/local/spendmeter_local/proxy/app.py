"""The real LiteLLM, metered, without a database.

A configuration that does not attach spendmeter gets what is missing (config.py). The key API
comes before LiteLLM's own routes.
"""

import asyncio
import contextlib
import importlib.util
import logging
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import SecretStr

from spendmeter.files.text import write_atomically
from spendmeter.settings import ClickHouseSettings
from spendmeter_local.keys.ledger import EnforcingGateway, KeyLedger
from spendmeter_local.keys.store import KeyStore
from spendmeter_local.proxy.config import completed

_PRISMA_ERRORS = (
    "ClientNotConnectedError",
    "DataError",
    "ForeignKeyViolationError",
    "HTTPClientClosedError",
    "MissingRequiredValueError",
    "RawQueryError",
    "RecordNotFoundError",
    "TableNotFoundError",
    "UniqueViolationError",
)


def stand_in_for_prisma() -> None:
    """If prisma is not installed, make `isinstance(error, prisma.errors.…)` False instead of an error.

    LiteLLM 1.106.2 imports prisma to distinguish a refused request from a lost database. Without prisma each
    refusal that is a plain exception (a route that a key may not use) becomes an answer 500.
    """
    if importlib.util.find_spec("prisma") is not None:
        return
    prisma, errors = ModuleType("prisma"), ModuleType("prisma.errors")
    engine, engine_errors = ModuleType("prisma.engine"), ModuleType("prisma.engine.errors")
    base = type("PrismaError", (Exception,), {})
    vars(errors).update({"PrismaError": base}, **{name: type(name, (base,), {}) for name in _PRISMA_ERRORS})
    vars(engine_errors)["EngineConnectionError"] = type("EngineConnectionError", (base,), {})
    vars(engine)["errors"] = engine_errors
    vars(prisma).update(errors=errors, engine=engine)
    for module in (prisma, errors, engine, engine_errors):
        sys.modules[module.__name__] = module


log = logging.getLogger(__name__)


class ProxySettings(ClickHouseSettings):
    """The supervisor's options for the proxy."""

    data_dir: Path
    """The directory of the key store and of the callback's outbox."""
    upstream_url: str
    """The model server, without /v1."""
    master_key: SecretStr


def prepare_litellm(settings: ProxySettings, config: Path) -> None:
    """Set the environment variables that LiteLLM reads. Call it before LiteLLM is imported."""
    os.environ |= {
        "CONFIG_FILE_PATH": str(_complete_file(config, settings.data_dir)),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MASTER_KEY": settings.master_key.get_secret_value(),
        # Otherwise LiteLLM would read a .env file in the current folder.
        "LITELLM_MODE": "PRODUCTION",
        "SPENDMETER_UPSTREAM_URL": settings.upstream_url,
        "SPENDMETER_UPSTREAM_API_BASE": settings.upstream_url.rstrip("/") + "/v1",
    }
    # A database named in the user's shell is not this proxy's.
    os.environ.pop("DATABASE_URL", None)
    stand_in_for_prisma()


def _complete_file(path: Path, data_dir: Path) -> Path:
    """The configuration to start with: the given file if nothing is missing in it."""
    config, added = completed(yaml.safe_load(path.read_text()) or {})
    if not added:
        return path
    log.info("%s does not attach spendmeter; added for this proxy: %s", path, "; ".join(added))
    complete = data_dir / "litellm.yaml"
    write_atomically(complete, yaml.safe_dump(config, sort_keys=False), mode=0o600)
    # Modules beside the given file are still found.
    sys.path.append(str(path.resolve().parent))
    return complete


def metered_app(settings: ProxySettings) -> Any:
    """LiteLLM's application behind the key API; both follow Kafka."""
    from litellm.proxy.proxy_server import app

    # LiteLLM's own handlers would print each line a second time, in another format.
    for name in ("LiteLLM", "LiteLLM Proxy", "LiteLLM Router"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).setLevel(logging.WARNING)

    from spendmeter_local.keys.api import KeyApi
    from spendmeter_local.keys.routes import key_routes
    from spendmeter_local.proxy.auth import grant_access

    store = KeyStore(settings.data_dir / "keys.sqlite")
    grant_access(store, settings.master_key.get_secret_value())
    ledger = KeyLedger(settings, gateway_of_this_process)
    routes = key_routes(KeyApi(store, ledger, lambda: datetime.now(UTC))).routes
    app.router.routes[:0] = routes
    litellms_own = app.router.lifespan_context

    @contextlib.asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with litellms_own(app) as state:
            following = asyncio.create_task(ledger.run())
            try:
                yield state
            finally:
                following.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await following
                await ledger.close()
                store.close()

    app.router.lifespan_context = lifespan
    return app


def gateway_of_this_process() -> EnforcingGateway | None:
    """Our callback, if LiteLLM has loaded it."""
    import litellm

    return next((callback for callback in litellm.callbacks if isinstance(callback, EnforcingGateway)), None)
