"""A callback of somebody else's, after ours, that fails before the call when a request asks for it."""

from typing import Any

from litellm.integrations.custom_logger import CustomLogger


class Troublemaker(CustomLogger):  # type: ignore[misc]
    async def async_pre_call_hook(
        self, user_api_key_dict: object, cache: object, data: dict[str, Any], call_type: str
    ) -> None:
        if data.get("user") == "trouble":
            raise ValueError("trouble")


troublemaker = Troublemaker()
