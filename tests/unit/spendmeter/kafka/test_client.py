"""Where Kafka's default partitioner puts a key: the same place as every other client of it."""

from pathlib import Path

import pytest
from aiokafka.partitioner import DefaultPartitioner, murmur2
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from spendmeter.contract.records import Record
from spendmeter.kafka.client import MAX_BATCH_BYTES, batch_of, connection, partition_of
from spendmeter.settings import Settings
from tests.certificates import Authority


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        # Apache Kafka's own cases: clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java.
        ("21", -973932308),
        ("foobar", -790332482),
        ("a-little-bit-long-string", -985981536),
        ("a-little-bit-longer-string", -1486304829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        ("abc", 479470107),
    ],
)
def test_keys_are_hashed_as_kafkas_java_clients_hash_them(key: str, hashed: int) -> None:
    assert murmur2(key.encode()) & 0xFFFFFFFF == hashed & 0xFFFFFFFF
    assert partition_of(key, 10_000) == (hashed & 0x7FFFFFFF) % 10_000


@pytest.mark.parametrize("partitions", [1, 4, 12, 10_000])
def test_an_account_is_placed_where_a_producer_puts_its_signal(partitions: int) -> None:
    numbers = list(range(partitions))
    accounts = [f"b|key=k{n}&team=%C3%A9" for n in range(200)] + ["", "é"]

    for account in accounts:
        producers_choice = DefaultPartitioner()(account.encode(), numbers, numbers)
        assert partition_of(account, partitions) == producers_choice


def test_a_plaintext_connection_carries_no_credentials() -> None:
    assert set(connection(Settings())) == {"bootstrap_servers", "client_id", "security_protocol"}


def test_sasl_over_tls_carries_both() -> None:
    settings = Settings.model_validate(
        {
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_username": "u",
            "kafka_sasl_password": "p",
        }
    )

    made = connection(settings)

    assert (made["sasl_plain_username"], made["sasl_plain_password"]) == ("u", "p")
    assert made["ssl_context"].check_hostname


@pytest.mark.parametrize("value_bytes", [0, 1, 127, 128, 856, 16_384, MAX_BATCH_BYTES - 1_000])
def test_a_batch_takes_all_that_it_is_sure_to_hold(value_bytes: int) -> None:
    headers = [(f"h{number}", b"x" * 40) for number in range(6)]
    records = [Record(b"k" * 64, b"v" * value_bytes, headers)] * (MAX_BATCH_BYTES // (value_bytes + 300))

    batch = batch_of(records)

    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, MAX_BATCH_BYTES)
    for offset, record in enumerate(batch):
        added = builder.append(offset, 2**41 + offset, record.key, record.value, record.headers)
        assert added is not None, f"{offset} of {len(batch)}"
    assert len(batch) == len(records) or builder.size() > MAX_BATCH_BYTES * 0.75


def test_what_is_larger_than_a_batch_goes_alone() -> None:
    large = Record(b"", b"v" * MAX_BATCH_BYTES, [])

    assert batch_of([large, large]) == [large]


def test_a_password_in_a_file_is_read_again_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    made = connection(_over_sasl(kafka_sasl_password_file=file))
    password = made["sasl_plain_password"]
    assert (password, password.encode("utf-8")) == ("first", b"first")

    file.write_text("second\n")

    assert password.encode("utf-8") == b"second"


def test_a_password_whose_file_is_away_is_a_connection_that_failed(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first")
    password = connection(_over_sasl(kafka_sasl_password_file=file))["sasl_plain_password"]
    file.unlink()

    with pytest.raises(OSError, match="cannot be read"):
        password.encode("utf-8")


@pytest.mark.parametrize("key_password", ["", "of the key"])
def test_a_certificate_is_shown(tmp_path: Path, key_password: str) -> None:
    authority = Authority(tmp_path)
    client = authority.sign("client", password=key_password)
    settings = Settings.model_validate(
        {
            "kafka_security_protocol": "SSL",
            "kafka_ssl_cafile": authority.cafile,
            "kafka_ssl_certfile": client.certificate,
            "kafka_ssl_keyfile": client.key,
            "kafka_ssl_key_password": key_password or None,
        }
    )

    assert connection(settings)["ssl_context"].check_hostname


def _over_sasl(**more: object) -> Settings:
    return Settings.model_validate(
        {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "u", **more}
    )
