"""Whose id an event bears."""

from typing import Any

from spendmeter_gateway.litellm.fields import put_event_id

OURS = "01890000-0000-7000-8000-000000000001"
FORGED = "01890000-0000-7000-8000-00000000ffff"


def put(data: dict[str, Any]) -> dict[str, Any]:
    put_event_id(data, OURS)
    return data


def test_it_goes_where_litellm_keeps_its_own_fields() -> None:
    assert put({"metadata": {"user_api_key_hash": "h"}})["metadata"]["spendmeter_event_id"] == OURS


def test_a_forged_id_is_overwritten() -> None:
    data = put({"metadata": {"user_api_key_hash": "h", "spendmeter_event_id": FORGED}})

    assert data["metadata"]["spendmeter_event_id"] == OURS


def test_metadata_that_goes_to_the_provider_gets_nothing_and_keeps_no_forged_id() -> None:
    data = put(
        {
            "metadata": {"user_id": "u", "spendmeter_event_id": FORGED},
            "litellm_metadata": {"user_api_key_hash": "h"},
        }
    )

    assert data["metadata"] == {"user_id": "u"}
    assert data["litellm_metadata"]["spendmeter_event_id"] == OURS


def test_a_client_that_forges_litellms_own_field_cannot_name_the_event_either() -> None:
    forged = {"user_api_key_hash": "x", "spendmeter_event_id": FORGED}
    data = put({"metadata": dict(forged), "litellm_metadata": dict(forged)})

    assert {data[name]["spendmeter_event_id"] for name in data} == {str(OURS)}


def test_a_route_without_metadata_gets_it() -> None:
    assert put({}) == {"metadata": {"spendmeter_event_id": str(OURS)}}
    assert put({"metadata": None}) == {"metadata": {"spendmeter_event_id": str(OURS)}}
