from spendmeter_console.pages.health import figures_in

PAGE = """\
# HELP spendmeter_stream_lag_seconds Age of the oldest record.
spendmeter_stream_lag_seconds{topic="a",partition="0"} 0.54
spendmeter_stream_lag_seconds{topic="a",partition="1"} 2.0
spendmeter_stream_lag_seconds{topic="b",partition="0"} 1.0
spendmeter_dead_letters_total{reason="json"} 2.0
spendmeter_dead_letters_total{reason="late"} 3.0
spendmeter_outbox_fill_ratio 0.123
spendmeter_other_seconds 9.0
"""


def test_counts_are_added_up_and_of_ages_the_oldest_is_shown() -> None:
    assert figures_in(PAGE) == {"lag (s)": 2.0, "dead letters": 5.0, "outbox full (%)": 12.3}
