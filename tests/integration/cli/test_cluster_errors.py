"""Why Kafka cannot be used: name, port, TLS, certificate, password, topics. On a real broker."""

import socket
from collections.abc import Iterator
from threading import Thread

import pytest

from spendmeter.kafka import compacted

from .conftest import Secured, spendmeter


@pytest.fixture
def web() -> Iterator[int]:
    """A port at which something else than Kafka answers, and hangs up."""
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    thread = Thread(target=answer)
    thread.start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


TLS = {"KAFKA_SECURITY_PROTOCOL": "SSL"}
ANN = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT",
    "KAFKA_SASL_USERNAME": "ann",
    "KAFKA_SASL_PASSWORD": "right",
    "KAFKA_SASL_MECHANISM": "PLAIN",
}


@pytest.mark.parametrize(
    ("bootstrap", "settings", "told"),
    [
        ("no-such-host.invalid:9092", {}, ["the name 'no-such-host.invalid'", "cannot be resolved"]),
        ("127.0.0.1:1", {}, ["nothing answers at 127.0.0.1:1 (connection refused)", "_BOOTSTRAP"]),
        (
            "127.0.0.1:1,127.0.0.1:2",
            {},
            ["127.0.0.1:1 (connection refused)", "127.0.0.1:2 (connection refused)"],
        ),
        ("{plain}", TLS, ["the TLS handshake", "SPENDMETER_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"]),
        ("{tls}", TLS, ["cannot be verified", "self", "CA's certificate in SPENDMETER_KAFKA_SSL_CAFILE"]),
        ("{tls}", {**TLS, "KAFKA_SSL_CAFILE": "{ca}"}, ["cannot be verified", "use the name that it is for"]),
        ("{tls}", {}, ["speaks TLS; set SPENDMETER_KAFKA_SECURITY_PROTOCOL=SSL"]),
        ("{sasl}", {}, ["wants to know who asks; set SPENDMETER_KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT"]),
        ("{plain}", ANN, ["wants no user and password", "SPENDMETER_KAFKA_SECURITY_PROTOCOL=PLAINTEXT"]),
        (
            "{sasl}",
            {**ANN, "KAFKA_SASL_PASSWORD": "wrong"},
            ["refuses user 'ann'", "SPENDMETER_KAFKA_SASL_PASSWORD"],
        ),
        (
            "{sasl}",
            {**ANN, "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512"},
            ["has no SCRAM-SHA-512", "SPENDMETER_KAFKA_SASL_MECHANISM"],
        ),
        ("{web}", {}, ["it is no Kafka"]),
        ("{sasl}", ANN, ["there is no topic spend.budgets; create it with"]),
    ],
)
def test_each_step_to_kafka_that_fails_is_told_with_its_setting(
    secured: Secured,
    web: int,
    bootstrap: str,
    settings: dict[str, str],
    told: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compacted, "TOPIC_WITHIN_SECONDS", 0.5)
    ports = {name: f"127.0.0.1:{port}" for name, port in [*secured._asdict().items(), ("web", web)]}
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", bootstrap.format(**ports))
    for name, value in settings.items():
        monkeypatch.setenv(f"SPENDMETER_{name}", value.format(ca=secured.certificate))

    said = spendmeter("budget", "list", exit_code=1)

    assert len(said.splitlines()) == 1, said
    assert said.startswith("Error: ")
    for words in told:
        assert words in said


@pytest.mark.parametrize(
    ("command", "topic"),
    [
        (["budget", "list"], "spend.budgets"),
        (["budget", "remove", "a"], "spend.budgets"),
        (["alerts"], "spend.alerts"),
        (["letters", "list"], "spend.dead-letters"),
        (["letters", "discard", "a"], "spend.dead-letters"),
    ],
)
def test_topics_that_are_missing_are_told_with_the_command_that_makes_them(
    kafka: str, topic_prefix: str, command: list[str], topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compacted, "TOPIC_WITHIN_SECONDS", 0.5)
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", topic_prefix)

    said = spendmeter(*command, exit_code=1)

    assert said == (f"Error: there is no topic {topic_prefix}{topic}; create it with `spendmeter topics`\n")


@pytest.mark.parametrize(
    ("given", "missing", "command"),
    [
        ("CLICKHOUSE_URL", "KAFKA_BOOTSTRAP", ["budget", "list"]),
        ("CLICKHOUSE_URL", "KAFKA_BOOTSTRAP", ["reconcile"]),
        ("KAFKA_BOOTSTRAP", "CLICKHOUSE_URL", ["reconcile"]),
        ("KAFKA_BOOTSTRAP", "CLICKHOUSE_URL", ["query", "SELECT 1"]),
        ("KAFKA_BOOTSTRAP", "CLICKHOUSE_URL", ["letters", "replay", "a"]),
    ],
)
def test_one_url_of_two_is_told_instead_of_two_systems_being_mixed(
    given: str, missing: str, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SPENDMETER_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("SPENDMETER_CLICKHOUSE_URL", raising=False)
    monkeypatch.setenv(
        f"SPENDMETER_{given}", "http://127.0.0.1:1" if given.endswith("URL") else "127.0.0.1:1"
    )

    said = spendmeter(*command, exit_code=2)

    assert f"SPENDMETER_{given} is set and SPENDMETER_{missing} is not; set both" in said
