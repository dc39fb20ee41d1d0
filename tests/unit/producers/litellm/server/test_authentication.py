"""What authentication said is known on every route."""

import asyncio
import inspect
from importlib import import_module
from typing import Any

import pytest

from spendmeter_gateway.litellm.server.authentication import observe_authentication

# As LiteLLM's module loads, pydantic warns of its types.
pytestmark = pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")
NAMES = ("user_api_key_auth_builder", "_user_api_key_auth_builder")


@pytest.fixture
def module() -> Any:
    """LiteLLM's own."""
    return import_module("litellm.proxy.auth.user_api_key_auth")


@pytest.fixture(params=NAMES)
def builder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, module: Any) -> str:
    """LiteLLM with its function under that name only, which says what it was called with."""

    async def build(request: object, **given: Any) -> object:
        if request == "unknown key":
            raise ValueError(request)
        return (request, given)

    only: str = request.param
    for name in NAMES:
        monkeypatch.setattr(module, name, build if name == only else None, raising=False)
    return only


def authenticate(name: str, *args: Any, **given: Any) -> object:
    module = import_module("litellm.proxy.auth.user_api_key_auth")
    return asyncio.run(getattr(module, name)(*args, **given))


def test_litellm_has_one_of_the_two_and_calls_it_by_its_name_in_the_module(module: Any) -> None:
    name = next(name for name in NAMES if hasattr(module, name))
    authenticates = inspect.unwrap(module.user_api_key_auth)

    assert name in authenticates.__code__.co_names


def test_what_it_said_is_kept_and_handed_on(builder: str) -> None:
    seen: list[object] = []
    assert observe_authentication(seen.append)

    answered = authenticate(builder, request=1, api_key="k")

    assert answered == (1, {"api_key": "k"})
    assert seen == [answered]
    assert seen[0] is answered, "LiteLLM fills in the rest later"


def test_who_is_not_authenticated_is_nobody(builder: str) -> None:
    seen: list[object] = []
    observe_authentication(seen.append)

    with pytest.raises(ValueError, match="unknown key"):
        authenticate(builder, request="unknown key")
    assert seen == []


def test_a_failure_of_ours_stays_ours(builder: str, caplog: pytest.LogCaptureFixture) -> None:
    def fails(auth: object) -> None:
        raise RuntimeError(auth)

    observe_authentication(fails)

    assert authenticate(builder, request=1) == (1, {})
    assert "could not be kept" in caplog.text


def test_to_observe_again_replaces_and_does_not_pile_up(builder: str) -> None:
    first: list[object] = []
    latest: list[object] = []
    observe_authentication(first.append)
    observe_authentication(latest.append)
    authenticate(builder, request=1)

    assert (len(first), len(latest)) == (0, 1)


def test_a_litellm_without_either_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, module: Any
) -> None:
    for name in NAMES:
        monkeypatch.setattr(module, name, None, raising=False)

    assert not observe_authentication(lambda auth: None)
    assert "user_api_key_auth_builder" in caplog.text
