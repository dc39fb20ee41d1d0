"""`spendmeter export` and `chargeback` on the real engine: each file adds up to what was spent."""

import csv
import io
import json
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from clickhouse_connect.driver.client import Client

from spendmeter.cli import answers
from spendmeter.history.focus import FOCUS_COLUMNS
from spendmeter.runtime import clickhouse as connection
from spendmeter.settings import ClickHouseSettings
from spendmeter_sinks.database.migrate import migrate

from .conftest import spendmeter, spendmeter_json

NOVEMBER = ("--from", "2026-11-01", "--to", "2026-12-01")
MALICIOUS = '=HYPERLINK("http://evil/","x")'
COLUMNS = ["event_id", "kind", "corrects", "occurred_at", "key", "key_alias", "team", "team_alias"]
COLUMNS += [
    "organization",
    "provider",
    "model",
    "tags",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "status",
]
ROWS: list[list[Any]] = [
    # time, key, its alias, team, its alias, model, USD
    ["2026-10-31 23:30:00", "k1", "ci", "t1", "Search", "gpt-4o", "7"],
    ["2026-11-01 00:00:00", "k1", "ci", "t1", "Search", "gpt-4o", "0.000000001"],
    ["2026-11-02 09:00:00", "k2", MALICIOUS, "t2", "@Ads", "+o3", "1.5"],
    ["2026-11-30 23:30:00", "k3", None, None, None, "gpt-4o", "0.25"],
    ["2026-12-01 00:00:00", "k1", "ci", "t1", "Search", "gpt-4o", "9"],
]
SPENT = Decimal("1.250000001")
"""In November, in UTC: what stands above, and the correction below."""
FOCUS_1_2 = """
    AvailabilityZone BilledCost BillingAccountId BillingAccountName BillingAccountType BillingCurrency
    BillingPeriodEnd BillingPeriodStart CapacityReservationId CapacityReservationStatus ChargeCategory
    ChargeClass ChargeDescription ChargeFrequency ChargePeriodEnd ChargePeriodStart
    CommitmentDiscountCategory CommitmentDiscountId CommitmentDiscountName CommitmentDiscountQuantity
    CommitmentDiscountStatus CommitmentDiscountType CommitmentDiscountUnit ConsumedQuantity ConsumedUnit
    ContractedCost ContractedUnitPrice EffectiveCost InvoiceId InvoiceIssuerName ListCost ListUnitPrice
    PricingCategory PricingCurrency PricingCurrencyContractedUnitPrice PricingCurrencyEffectiveCost
    PricingCurrencyListUnitPrice PricingQuantity PricingUnit ProviderName PublisherName RegionId
    RegionName ResourceId ResourceName ResourceType ServiceCategory ServiceName ServiceSubcategory SkuId
    SkuMeter SkuPriceDetails SkuPriceId SubAccountId SubAccountName SubAccountType Tags
""".split()  # noqa: SIM905
NEVER_NULL = """
    BilledCost BillingCurrency BillingPeriodEnd BillingPeriodStart ChargeCategory ChargeDescription
    ChargePeriodEnd ChargePeriodStart ContractedCost EffectiveCost InvoiceIssuerName ListCost
    PricingQuantity PricingUnit ProviderName PublisherName ServiceCategory ServiceName
    ServiceSubcategory
""".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def filled(clickhouse: str) -> Iterator[tuple[Client, str]]:
    database = f"t{uuid4().hex[:12]}"
    settings = ClickHouseSettings(clickhouse_url=clickhouse, clickhouse_database=database)
    client = connection.client(settings, database=None)
    migrate(client, database)
    # Else copies might be gone before anybody reads.
    for table in ("usage", "signals", "alerts", "budgets", "decisions"):
        client.command(f"SYSTEM STOP MERGES {table}")
    rows = [
        [
            *(UUID(int=number), "usage", None, datetime.fromisoformat(f"{time}+00:00")),
            *(key, alias, team, team_alias, "acme", "openai", model, ["-1+1"], 100, 10, usd, "success"),
        ]
        for number, (time, key, alias, team, team_alias, model, usd) in enumerate(ROWS, 1)
    ]
    correction = [*rows[2]]
    correction[:3] = [UUID(int=9), "correction", UUID(int=3)]
    correction[-4:-1] = [0, 0, "-0.5"]
    # The first of them once more, as a resend has it.
    client.insert("usage", [*rows, correction], column_names=COLUMNS)
    client.insert("usage", [rows[1], correction], column_names=COLUMNS)
    yield client, database
    client.close()


@pytest.fixture(autouse=True)
def found(filled: tuple[Client, str], clickhouse: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_URL", clickhouse)
    monkeypatch.setenv("SPENDMETER_CLICKHOUSE_DATABASE", filled[1])


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_single_requests_add_up_to_what_was_spent_in_each_format(tmp_path: Path) -> None:
    as_csv = rows_of(spendmeter("export", *NOVEMBER))
    assert [row["event_id"] for row in as_csv] == [str(UUID(int=n)) for n in (2, 3, 4)]
    assert sum(Decimal(row["spent_usd"]) for row in as_csv) == SPENT

    as_lines = [
        json.loads(line) for line in spendmeter("export", *NOVEMBER, "--format", "jsonl").splitlines()
    ]
    assert sum(Decimal(row["spent_usd"]) for row in as_lines) == SPENT
    assert as_lines[1]["key_alias"] == MALICIOUS, "JSON runs no formula"

    file = tmp_path / "november.parquet"
    spendmeter("export", *NOVEMBER, "--format", "parquet", "--output", str(file))
    content = file.read_bytes()
    assert content[:4] == content[-4:] == b"PAR1"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("by", ["team,model", "day,key", "month,organization,provider", "hour,user"])
def test_sums_add_up_to_what_was_spent(by: str) -> None:
    rows = rows_of(spendmeter("export", *NOVEMBER, "--by", by))
    assert sum(Decimal(row["spent_usd"]) for row in rows) == SPENT
    assert sum(int(row["requests"]) for row in rows) == 3
    assert next(iter(rows[0])) == by.partition(",")[0]


def test_days_and_months_are_those_of_the_zone() -> None:
    rows = rows_of(spendmeter("export", *NOVEMBER, "--by", "month,day", "--timezone", "Europe/Berlin"))
    assert [(row["month"], row["day"], Decimal(row["spent_usd"])) for row in rows] == [
        ("2026-11", "2026-11-01", Decimal("7.000000001")),
        ("2026-11", "2026-11-02", 1),
    ]


def test_no_cell_is_a_formula() -> None:
    for given in (
        (),
        ("--by", "team,key,model"),
        ("--format", "focus"),
    ):
        rows = rows_of(spendmeter("export", *NOVEMBER, *given))
        cells = [cell for row in rows for name, cell in row.items() if name != "recorded_usd"]
        assert any(cell == f"'{MALICIOUS}" for cell in cells)
        assert not [cell for cell in cells if re.match(r"[=+@\t\r-]", cell)], given


def test_focus_has_the_columns_of_the_specification_and_nothing_that_it_forbids() -> None:
    text = spendmeter("export", *NOVEMBER, "--format", "focus")
    rows = rows_of(text)
    assert len(FOCUS_1_2) == 57
    assert list(rows[0]) == FOCUS_1_2 == list(FOCUS_COLUMNS)
    assert len(rows) == 3
    assert sum(Decimal(row["BilledCost"]) for row in rows) == SPENT
    for row in rows:
        assert not [name for name in NEVER_NULL if row[name] in ("", "\\N")]
        for name, cell in row.items():
            if name.endswith(("PeriodStart", "PeriodEnd")):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT00:00:00Z", cell), name
            if name.endswith("Cost"):
                assert re.fullmatch(r"-?\d+\.\d{9}", cell), name
        assert row["ChargePeriodStart"] < row["ChargePeriodEnd"] <= row["BillingPeriodEnd"]
        assert (row["BillingPeriodStart"], row["BillingPeriodEnd"]) == (
            "2026-11-01T00:00:00Z",
            "2026-12-01T00:00:00Z",
        )
        assert (row["ChargeCategory"], row["ChargeFrequency"]) == ("Usage", "Usage-Based")
        assert all(isinstance(value, str) for value in json.loads(row["Tags"]).values())


def test_chargeback_has_each_team_with_its_share_and_all_of_them_add_up() -> None:
    found = spendmeter_json("chargeback", "--month", "2026-11")
    assert Decimal(found["total_usd"]) == SPENT
    assert [(row["team"], row["team_alias"], row["share_percent"]) for row in found["rows"]] == [
        ("t2", "@Ads", "80.00"),
        ("", "", "20.00"),
        ("t1", "Search", "0.00"),
    ]
    shown = spendmeter("chargeback", "--month", "2026-11", "--by", "team").splitlines()
    assert shown[-1].split() == ["total", "1.250000001", "100.00"]
    assert "nothing was spent in 2025-01" in spendmeter("chargeback", "--month", "2025-01")


def test_an_answer_that_breaks_off_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(b"a,b\n1,2\nCode: 241. DB::Exception: memory limit exceeded\n")

    monkeypatch.setattr("clickhouse_connect.driver.httpclient.HttpClient.raw_stream", fails)
    said = spendmeter("export", *NOVEMBER, "--output", str(tmp_path / "x.csv"), exit_code=1)
    assert "history broke off" in said
    assert list(tmp_path.iterdir()) == []


def test_an_answer_is_never_held_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "CHUNK_BYTES", 64)
    assert sum(Decimal(row["spent_usd"]) for row in rows_of(spendmeter("export", *NOVEMBER))) == SPENT


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--from", "2026-13-01", "--to", "2026-12-01"), "write one such as 2026-11-01"),
        (("--from", "yesterday", "--to", "2026-12-01"), "'yesterday' is no date"),
        ((*NOVEMBER, "--timezone", "Mars/Base"), "write an IANA name, such as Europe/Berlin"),
        ((*NOVEMBER, "--format", "xlsx"), "'csv', 'jsonl', 'parquet', 'focus'"),
        ((*NOVEMBER, "--by", "colour"), "there are no sums by 'colour'; write some of hour, day"),
        ((*NOVEMBER, "--by", ","), "--by names nothing"),
        (("--from", "2026-12-01", "--to", "2026-11-01"), "--to is not after --from"),
        (("--from", "2026-11-01T00:30:00Z", "--to", "2026-12-01", "--by", "team"), "whole hours of UTC"),
        ((*NOVEMBER, "--format", "focus", "--by", "team"), "leave out --by and --timezone"),
        (("--from", "2026-11-01T01:00:00Z", "--to", "2026-12-01", "--format", "focus"), "whole days in UTC"),
    ],
)
def test_what_does_not_exist_is_named_with_what_to_write(given: tuple[str, ...], said: str) -> None:
    assert said in spendmeter("export", *given, exit_code=2)
    assert "write one such as 2026-11" in spendmeter("chargeback", "--month", "2026-13", exit_code=2)
