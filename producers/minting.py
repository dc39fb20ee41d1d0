"""The id of the event that a request will become, minted here because what a client sends can be forged."""

from typing import Any
from uuid import UUID

from producers.mapping import EVENT_ID_FIELD
from producers.payload import mapping

METADATA = ("metadata", "litellm_metadata")
"""Where a request carries what its log event will have: LiteLLM uses one of them, by the route."""
# LiteLLM itself puts it into the one that the route uses.
_PUT_BY_THE_PROXY = "user_api_key_hash"


def put_event_id(data: dict[str, Any], event_id: UUID) -> None:
    """Put the id where LiteLLM keeps its own fields, and take a forged one from where clients write.

    On /v1/messages and /v1/responses `metadata` is the client's and goes to the provider, which may
    refuse a field that it does not know.
    """
    ours = [name for name in METADATA if _PUT_BY_THE_PROXY in mapping(data.get(name))] or ["metadata"]
    for name in METADATA:
        if name in ours:
            if not isinstance(data.get(name), dict):
                data[name] = {}
            data[name][EVENT_ID_FIELD] = str(event_id)
        elif isinstance(data.get(name), dict):
            data[name].pop(EVENT_ID_FIELD, None)
