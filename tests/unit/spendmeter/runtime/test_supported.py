"""What is said of servers that nothing here was tried on."""

from importlib import metadata

import pytest

from spendmeter.runtime.supported import (
    NEWEST_CLICKHOUSE,
    NEWEST_KAFKA,
    OLDEST_CLICKHOUSE,
    OLDEST_KAFKA,
    clickhouse_warning,
    kafka_warning,
)
from tests.versions.releases import ENGINES, KAFKAS, ROOT

PRODUCE, LIST_OFFSETS = 0, 2


@pytest.mark.parametrize("version", ["24.8.0.1", "24.8.14.39", "24.9.1", "25.3.2.39", "26.9.1.1", "26.9"])
def test_nothing_is_said_of_a_clickhouse_in_between(version: str) -> None:
    assert clickhouse_warning(version) is None


@pytest.mark.parametrize("version", ["24.7.9.9", "23.12.1", "9.8.1"])
def test_an_older_clickhouse_is_named_with_what_to_do(version: str) -> None:
    said = clickhouse_warning(version)
    assert said is not None
    assert f"{version}, older than 24.8" in said
    assert "upgrade ClickHouse" in said


@pytest.mark.parametrize("version", ["26.10.1.1", "27.1.1", "126.1"])
def test_a_newer_clickhouse_is_named(version: str) -> None:
    assert f"{version}, newer than 26.9" in (clickhouse_warning(version) or "")


@pytest.mark.parametrize("version", ["", "head", "v24.8"])
def test_nothing_is_said_of_what_is_no_version(version: str) -> None:
    assert clickhouse_warning(version) is None


@pytest.mark.parametrize(("highest", "is_older"), [(8, True), (9, False), (11, False)])
def test_a_broker_is_known_by_what_it_serves(highest: int, is_older: bool) -> None:
    """3.8.1 serves version 8 of this request, 3.9.2 version 9 and 4.4.0 version 11."""
    said = kafka_warning([(PRODUCE, 0, 11), (LIST_OFFSETS, 0, highest)])
    assert (said is not None) is is_older
    assert said is None or "older than 3.9" in said


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md", "docs/reference/versions.md"])
def test_the_pages_name_what_is_supported(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert f"{OLDEST_KAFKA} to {NEWEST_KAFKA}" in text
    assert f"{OLDEST_CLICKHOUSE} to {NEWEST_CLICKHOUSE}" in text


def test_the_page_names_the_releases_that_run() -> None:
    table = (ROOT / "docs/reference/versions.md").read_text(encoding="utf-8").partition("\n## ")[0]
    for version in (*(one.version for one in KAFKAS), *(one.chdb for one in ENGINES if one.chdb)):
        assert version in table
    assert f"chDB {metadata.version('chdb')}" in table


def test_the_tests_run_on_the_oldest_and_the_newest() -> None:
    kafkas = [release.version.rpartition(".")[0] for release in KAFKAS]
    assert (kafkas[0], kafkas[-1]) == (OLDEST_KAFKA, NEWEST_KAFKA)
    assert [release.version for release in ENGINES] == [OLDEST_CLICKHOUSE, NEWEST_CLICKHOUSE]
