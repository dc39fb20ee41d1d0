"""A stand-in for the package `prisma`, whose exception classes LiteLLM asks about in its own errors."""

import importlib.util
import sys
from types import ModuleType

_ERRORS = (
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
    """Where prisma is not installed, let `isinstance(error, prisma.errors.…)` be False instead of raising.

    LiteLLM 1.106.2 imports prisma to tell a refused request from a lost database. Without prisma each
    refusal that is a plain exception (a route that a key may not use) becomes an answer 500.
    """
    if importlib.util.find_spec("prisma") is not None:
        return
    prisma, errors = ModuleType("prisma"), ModuleType("prisma.errors")
    engine, engine_errors = ModuleType("prisma.engine"), ModuleType("prisma.engine.errors")
    base = type("PrismaError", (Exception,), {})
    vars(errors).update({"PrismaError": base}, **{name: type(name, (base,), {}) for name in _ERRORS})
    vars(engine_errors)["EngineConnectionError"] = type("EngineConnectionError", (base,), {})
    vars(engine)["errors"] = engine_errors
    vars(prisma).update(errors=errors, engine=engine)
    for module in (prisma, errors, engine, engine_errors):
        sys.modules[module.__name__] = module
