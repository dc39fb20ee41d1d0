"""Settings: everything that is wrong, at once, before anything starts; and no secret on the screen."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import Field, SecretStr, field_validator, model_validator

from spendmeter.contract.topics import Topic
from spendmeter.settings import ClickHouseSettings, Settings, load
from tests.certificates import Authority


class Peculiar(Settings):
    """A process's own settings, with rules of its own."""

    least: int = Field(default=1, ge=1)
    most: int = 2

    @field_validator("most")
    @classmethod
    def _most_is_even(cls, value: int) -> int:
        if value % 2:
            raise ValueError("an even number, please")
        return value

    @model_validator(mode="after")
    def _least_first(self) -> "Peculiar":
        if self.least > self.most:
            raise ValueError("least is above most")
        return self


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever runs the tests may have a stack of their own in the environment."""
    for name in [name for name in os.environ if name.startswith("SPENDMETER_")]:
        monkeypatch.delenv(name)


def refusal(
    settings: type[Settings],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    **env: str,
) -> list[str]:
    """The lines said on standard error by a process that must not start with such an environment."""
    for name, value in env.items():
        monkeypatch.setenv(f"SPENDMETER_{name}", value)
    with pytest.raises(SystemExit) as stopped:
        load(settings)

    told = capsys.readouterr()
    assert stopped.value.code == 2
    assert told.out == ""
    first, *lines = told.err.splitlines()
    assert first == "spendmeter cannot start; the configuration has these problems:"
    return lines


def test_what_is_set_is_read_and_the_rest_has_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", "a:1,b:2")
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", "eu.")

    settings = load(Settings)

    assert (settings.kafka_bootstrap, settings.metrics_host) == ("a:1,b:2", "127.0.0.1")
    assert settings.topic(Topic.USAGE) == "eu.spend.usage"


def test_every_problem_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(
        Settings,
        monkeypatch,
        capsys,
        KAFKA_SECURITY_PROTOCOL="SASL_SSL",
        METRICS_PORT="http",
        TOPIC_PREFIX="a b",
        PARTITIONS="0",
        LOG_LEVEL="loud",
    )

    assert told == [
        "  SPENDMETER_LOG_LEVEL: Input should be 'DEBUG', 'INFO', 'WARNING' or 'ERROR' (given: 'loud')",
        "  SPENDMETER_METRICS_PORT: Input should be a valid integer, unable to parse string as an integer"
        " (given: 'http')",
        "  SPENDMETER_KAFKA_SASL_USERNAME: needed, because kafka_security_protocol is SASL_SSL",
        "  SPENDMETER_KAFKA_SASL_PASSWORD: needed, because kafka_security_protocol is SASL_SSL",
        "  SPENDMETER_TOPIC_PREFIX: String should match pattern '^[A-Za-z0-9._-]{0,100}$' (given: 'a b')",
        "  SPENDMETER_PARTITIONS: Input should be greater than or equal to 1 (given: '0')",
    ]


def test_our_own_rules_are_said_in_our_own_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(Peculiar, monkeypatch, capsys, MOST="3") == [
        "  SPENDMETER_MOST: an even number, please (given: '3')"
    ]


def test_what_does_not_go_together_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(Peculiar, monkeypatch, capsys, LEAST="4") == ["  together: least is above most"]


@pytest.mark.parametrize("protocol", ["SASL_SSL", "SASL_PLAINTEXT"])
def test_sasl_with_both_credentials_is_taken(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("SECURITY_PROTOCOL", protocol), ("SASL_USERNAME", "u"), ("SASL_PASSWORD", "p")):
        monkeypatch.setenv(f"SPENDMETER_KAFKA_{name}", value)

    assert load(Settings).kafka_sasl_password == SecretStr("p")


@pytest.mark.parametrize("env", [{"KAFKA_SASL_USERNAME": "u"}, {"KAFKA_SASL_PASSWORD": "hunter2"}])
def test_half_a_credential_is_none_and_a_password_is_never_printed(
    env: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refusal(Settings, monkeypatch, capsys, KAFKA_SECURITY_PROTOCOL="SASL_SSL", **env)

    assert len(told) == 1
    assert "hunter2" not in told[0]


@pytest.mark.parametrize(
    ("content", "given", "said"),
    [
        (None, {}, "KAFKA_SASL_PASSWORD_FILE: the file cannot be read: No such file or directory"),
        (b"\n", {}, "KAFKA_SASL_PASSWORD_FILE: the file is empty; write the password into it"),
        (b"\xff\xfe", {}, "KAFKA_SASL_PASSWORD_FILE: the file holds other than UTF-8 text"),
        (
            b"p",
            {"KAFKA_SASL_PASSWORD": "p"},
            "KAFKA_SASL_PASSWORD: give either this or SPENDMETER_KAFKA_SASL_",
        ),
    ],
)
def test_a_password_file_that_holds_none_is_said_once(
    content: bytes | None,
    given: dict[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "password"
    if content is not None:
        file.write_bytes(content)
    env = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", "KAFKA_SASL_USERNAME": "u", **given}

    [told] = refusal(Settings, monkeypatch, capsys, KAFKA_SASL_PASSWORD_FILE=str(file), **env)

    assert told.startswith(f"  SPENDMETER_{said}")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ({"KEYFILE": "client-key.pem"}, "needed, because SPENDMETER_KAFKA_SSL_KEYFILE is set"),
        ({"CERTFILE": "client.pem"}, "with its own key this is no certificate and its key"),
        (
            {"CERTFILE": "client.pem", "KEYFILE": "other-key.pem"},
            "other-key.pem this is no certificate and its",
        ),
        ({"CERTFILE": "ca.pem", "KEYFILE": "away.pem"}, "cannot be read: No such file or directory"),
        ({"CERTFILE": "secret.pem", "KEYFILE": "secret-key.pem"}, "KEY_PASSWORD is not its password"),
    ],
)
def test_a_certificate_that_cannot_be_shown_is_said_before_anything_starts(
    names: dict[str, str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    authority = Authority(tmp_path)
    for name, password in (("client", ""), ("other", ""), ("secret", "s3cret")):
        authority.sign(name, password=password)
    env = {f"KAFKA_SSL_{name}": str(tmp_path / file) for name, file in names.items()}

    [told] = refusal(Settings, monkeypatch, capsys, KAFKA_SECURITY_PROTOCOL="SSL", **env)

    assert told.startswith("  SPENDMETER_KAFKA_SSL_CERTFILE: ")
    assert said in told


def test_a_password_in_a_url_is_never_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    url = "htp://ann:hunter2@clickhouse:8123/?a=b@c"

    [told] = refusal(ClickHouseSettings, monkeypatch, capsys, CLICKHOUSE_URL=url)

    assert "hunter2" not in told
    assert told.startswith("  SPENDMETER_CLICKHOUSE_URL: String should match pattern '^https?://'")


@pytest.mark.parametrize(
    ("settings", "secret"),
    [
        (Settings, {"kafka_sasl_username": "u", "kafka_sasl_password": "hunter2"}),
        (ClickHouseSettings, {"clickhouse_password": "hunter2"}),
    ],
)
def test_settings_that_are_logged_show_no_password(settings: type[Settings], secret: dict[str, Any]) -> None:
    made = settings(**secret)

    assert "hunter2" not in repr(made) + str(made) + made.model_dump_json()


def test_user_and_password_of_the_url_count_first_and_are_not_shown() -> None:
    set_apart = ClickHouseSettings(clickhouse_user="ann", clickhouse_password=SecretStr("hunter2"))
    assert set_apart.clickhouse_login == ("ann", "hunter2")
    assert set_apart.clickhouse_address == "http://127.0.0.1:8123"
    in_url = set_apart.model_copy(update={"clickhouse_url": "https://b%40b:p%2Fw@[::1]:8443/x"})
    assert in_url.clickhouse_login == ("b@b", "p/w")
    assert in_url.clickhouse_address == "https://[::1]:8443/x"


KEY = "k" * 32


def test_signing_keys_are_read_from_the_environment_or_from_a_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert not load(Settings).read_signing_keys()
    monkeypatch.setenv("SPENDMETER_SIGNING_KEYS", f"{KEY},{'o' * 40}")
    by_environment = load(Settings).read_signing_keys()
    monkeypatch.delenv("SPENDMETER_SIGNING_KEYS")
    file = tmp_path / "keys"
    file.write_text(f"{KEY}\n{'o' * 40}\n")
    monkeypatch.setenv("SPENDMETER_SIGNING_KEYS_FILE", str(file))
    by_file = load(Settings).read_signing_keys()

    assert by_file.sign("t", 0, b"", b"") == by_environment.sign("t", 0, b"", b"") != []


@pytest.mark.parametrize(
    ("env", "content", "problem"),
    [
        ({"SIGNING_KEYS": f"{KEY},s3cret"}, "", ": key 2 has 6 characters, fewer than 32;"),
        ({"SIGNING_KEYS": "s3cret" + "é" * 32}, "", ": key 1 holds other than ASCII text;"),
        ({"SIGNING_KEYS_FILE": "FILE"}, "s3cret", "_FILE: key 1 has 6 characters,"),
        ({"SIGNING_KEYS_FILE": "FILE"}, " \n", "_FILE: FILE holds no key;"),
        ({"SIGNING_KEYS_FILE": "FILE"}, "né" * 20, "_FILE: FILE holds other than ASCII"),
        ({"SIGNING_KEYS_FILE": "FILE.gone"}, "", "_FILE: FILE.gone cannot be read: No such"),
        ({"SIGNING_KEYS_FILE": "FILE", "SIGNING_KEYS": KEY}, KEY, "_FILE: give either"),
    ],
)
def test_a_key_that_cannot_be_is_a_problem_and_is_not_shown(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    env: dict[str, str],
    content: str,
    problem: str,
) -> None:
    file = tmp_path / "keys"
    file.write_text(content, encoding="utf-8")
    given = {name: value.replace("FILE", str(file)) for name, value in env.items()}

    [line] = refusal(Settings, monkeypatch, capsys, **given)

    assert line.strip().startswith(f"SPENDMETER_SIGNING_KEYS{problem.replace(': FILE', f': {file}')}")
    assert "s3cret" not in line
    assert KEY not in line
