"""The id of the event that a request will become, minted here because what a client sends can be forged."""

from typing import Any

from spendmeter_gateway.litellm.payload.fields import EVENT_ID_FIELD, METADATA

# LiteLLM itself puts it into the one that the route uses.
_PUT_BY_THE_PROXY = "user_api_key_hash"


def put_event_id(data: dict[str, Any], event_id: str) -> None:
    """Put the id where LiteLLM keeps its own fields, and remove a forged one from where clients write.

    On /v1/messages and /v1/responses `metadata` is the client's and goes to the provider, which may
    refuse a field that it does not know.
    """
    is_put = False
    for name in METADATA:
        metadata = data.get(name)
        if not isinstance(metadata, dict):
            continue
        if _PUT_BY_THE_PROXY in metadata:
            metadata[EVENT_ID_FIELD] = event_id
            is_put = True
        else:
            metadata.pop(EVENT_ID_FIELD, None)
    if not is_put:
        if not isinstance(data.get("metadata"), dict):
            data["metadata"] = {}
        data["metadata"][EVENT_ID_FIELD] = event_id
