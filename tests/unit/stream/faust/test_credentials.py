"""Faust's clients reach the cluster in the same way as ours do: with its TLS and its credentials."""

from pathlib import Path

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from spendmeter.kafka.client import connection
from spendmeter_stream.faust.app import make_app
from spendmeter_stream.settings import StreamSettings


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_worker_joins_its_group_as_its_producer_connects(protocol: str, mechanism: str) -> None:
    settings = StreamSettings.model_validate(
        {
            "kafka_security_protocol": protocol,
            "kafka_sasl_mechanism": mechanism,
            "kafka_sasl_username": "u",
            "kafka_sasl_password": "p",
        }
    )

    fausts = credentials_to_aiokafka_auth(make_app(settings).conf.broker_credentials)

    ours = connection(settings)
    del ours["bootstrap_servers"], ours["client_id"]
    assert _without_context(fausts) == _without_context(ours)
    assert bool(fausts.get("ssl_context")) is protocol.endswith("SSL")
    if protocol.endswith("SSL"):
        assert fausts["ssl_context"].check_hostname


def test_the_worker_reads_a_password_in_a_file_again_for_each_connection(tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first")
    settings = StreamSettings.model_validate(
        {
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_username": "u",
            "kafka_sasl_password_file": file,
        }
    )

    fausts = credentials_to_aiokafka_auth(make_app(settings).conf.broker_credentials)

    file.write_text("second")
    assert fausts["sasl_plain_password"].encode("utf-8") == b"second"


def _without_context(auth: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in auth.items() if name != "ssl_context"}
