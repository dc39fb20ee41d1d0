"""Run by a release's own Python: what can be seen without a proxy, as JSON on the last line."""

import asyncio
import contextvars
import json
import sys
from importlib.metadata import requires, version
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.types_utils.utils import get_instance_fn
from packaging.requirements import Requirement

from spendmeter_gateway.litellm.callback import callback
from spendmeter_gateway.litellm.compat import make_up_for_what_is_missing

where: contextvars.ContextVar[str | None] = contextvars.ContextVar("where", default=None)
failures: list[list[Any]] = []


class Noting(CustomLogger):  # type: ignore[misc]
    """Notes each failed call to a deployment."""

    async def async_post_call_failure_deployment_hook(
        self, request_data: Any, exception: Exception, call_type: Any, fallback_depth: int | None = None
    ) -> None:
        failures.append([call_type.value, request_data["metadata"]["model_group"], where.get()])


async def fail_and_fall_back() -> None:
    """One request: three attempts that fail, and a fallback."""
    where.set("outer")
    router = litellm.Router(
        [model("bad", "litellm.InternalServerError"), model("good", "here")],
        num_retries=2,
        retry_after=0,
        fallbacks=[{"bad": ["good"]}],
        disable_cooldowns=True,
    )
    await router.acompletion("bad", messages=[{"role": "user", "content": "Hello"}])


def model(name: str, answer: str) -> dict[str, Any]:
    params = {"model": "openai/gpt-4o-mini", "api_key": "sk-x", "mock_response": answer}
    return {"model_name": name, "litellm_params": params}


def main() -> None:
    # The second time, there is nothing to do.
    make_up_for_what_is_missing()
    make_up_for_what_is_missing()
    litellm.callbacks.append(Noting())
    asyncio.run(fail_and_fall_back())
    needed = [one for one in map(Requirement, requires("spendmeter") or ()) if not one.marker]
    said = {
        "failures": failures,
        "needed": [one.name for one in needed],
        "unmet": [str(one) for one in needed if not one.specifier.contains(version(one.name))],
        "is_the_callback": get_instance_fn("spendmeter_callback.callback", sys.argv[1]) is callback,
    }
    print()
    print(json.dumps(said))


if __name__ == "__main__":
    main()
