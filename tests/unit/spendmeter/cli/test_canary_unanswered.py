"""How long a request without an answer may still be billed."""

from spendmeter.cli.canary.model import BILLED_WITHIN_SECONDS, MAX_UNANSWERED, UnansweredRequests


def test_a_request_may_be_billed_until_the_proxy_gives_it_up() -> None:
    unanswered = UnansweredRequests()
    unanswered.add(100.0)
    unanswered.add(200.0)

    assert unanswered.count(200.0) == 2
    assert unanswered.count(100.0 + BILLED_WITHIN_SECONDS) == 1
    assert unanswered.count(200.0 + BILLED_WITHIN_SECONDS) == 0


def test_the_latest_are_kept() -> None:
    unanswered = UnansweredRequests()
    for number in range(MAX_UNANSWERED + 10):
        unanswered.add(float(number) / 1000)

    assert unanswered.count(2.0) == MAX_UNANSWERED
