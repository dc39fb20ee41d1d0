"""A process that is forked, as a server with several workers forks them."""

import os

import pytest

from spendmeter_gateway import gateway as gateways


def test_a_forked_child_gets_a_gateway_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateways, "_the_gateway", object())

    child = os.fork()
    if child == 0:
        os._exit(0 if gateways._the_gateway is None else 1)

    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert gateways._the_gateway is not None
