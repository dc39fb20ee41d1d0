"""Settings that every process shares, read from the environment (`SPENDMETER_…`)."""

import re
import socket
import ssl
import sys
from pathlib import Path
from typing import Literal, NoReturn, TypeVar
from urllib.parse import unquote, urlsplit, urlunsplit

from pydantic import Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, SettingsConfigDict

from spendmeter.contract.signing import MIN_KEY_CHARACTERS, SigningKeys
from spendmeter.contract.topics import Topic
from spendmeter.contract.wire import what_is_wrong

ENV_PREFIX = "SPENDMETER_"
_SERVER = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/@]+)(:(?P<port>[0-9]{1,5}))?")
MAX_PARTITIONS = 4_000
"""An account's spend in all partitions is one record of a changelog, so their number is bounded."""


class Settings(BaseSettings):
    """The base of each process's settings; a subclass adds its own."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX, frozen=True, extra="ignore", use_attribute_docstrings=True
    )

    component: str = "spendmeter"
    """The name of this process in its log, for Kafka and in dead letters."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    metrics_host: str = "127.0.0.1"
    metrics_port: int = Field(default=0, ge=0, le=65535)
    """The port for Prometheus; 0 serves no metrics page."""

    kafka_bootstrap: str = Field(default="127.0.0.1:9092", min_length=1)
    """host:port, several separated by commas."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str | None = Field(default=None, validate_default=True)
    kafka_sasl_password_file: Path | None = None
    """A file with the password instead: it is read again for each connection, so it may change."""
    kafka_sasl_password: SecretStr | None = Field(default=None, validate_default=True)
    kafka_ssl_cafile: Path | None = None
    signing_keys: SecretStr = SecretStr("")
    """Keys for signing records, separated by commas: the first one signs, all are accepted. The same for all
    processes. A record without a signature counts as before, and its author is shown as claimed."""
    signing_keys_file: Path | None = Field(default=None, validate_default=True)
    """A file with the keys instead, one per line."""
    kafka_ssl_key_password: SecretStr | None = None
    kafka_ssl_keyfile: Path | None = None
    """The certificate's key (PEM); without it, it is in the certificate's file."""
    kafka_ssl_certfile: Path | None = Field(default=None, validate_default=True)
    """The client certificate of this process, and those between it and the CA's (PEM)."""
    topic_prefix: str = Field(default="", pattern=r"^[A-Za-z0-9._-]{0,100}$")
    """Put before every topic and consumer group, so that several systems can share a cluster."""
    partitions: int = Field(default=4, ge=1, le=MAX_PARTITIONS)
    """Of spend.usage, spend.totals and spend.signals when they are created."""
    replication: int = Field(default=1, ge=1, le=15)

    # On the fields, not on the model: pydantic checks the model only once every field is right, but all
    # problems must be reported at once.
    @field_validator("kafka_sasl_username", "kafka_sasl_password")
    @classmethod
    def _sasl_has_credentials(cls, value: object, info: ValidationInfo) -> object:
        protocol = info.data.get("kafka_security_protocol", "")
        # A refused file has already been reported.
        file = info.data.get("kafka_sasl_password_file", "refused")
        in_file = info.field_name == "kafka_sasl_password" and file
        if value and in_file:
            raise ValueError(f"give either this or {ENV_PREFIX}KAFKA_SASL_PASSWORD_FILE, not both")
        if protocol.startswith("SASL") and not (value or in_file):
            raise ValueError(f"needed, because kafka_security_protocol is {protocol}")
        return value

    @field_validator("kafka_bootstrap")
    @classmethod
    def _servers_are_named(cls, value: str) -> str:
        for server in value.split(","):
            if "://" in server:
                raise ValueError(
                    f"write {server.strip().partition('://')[2]!r}, without what stands before ://"
                )
            found = _SERVER.fullmatch(server.strip())
            if found is None or not 0 < int(found["port"] or 1) < 65536:
                raise ValueError(f"{server.strip()!r} is no host:port, such as kafka-1:9092")
        return value

    @field_validator("kafka_ssl_cafile")
    @classmethod
    def _certificates_can_be_read(cls, value: Path | None) -> Path | None:
        if value is None:
            return None
        try:
            ssl.create_default_context(cafile=str(value))
        except ssl.SSLError:
            raise ValueError(
                "the file holds no certificates in PEM format (-----BEGIN CERTIFICATE-----)"
            ) from None
        except OSError as error:
            raise ValueError(f"the file cannot be read: {error.strerror}") from None
        return value

    @field_validator("signing_keys")
    @classmethod
    def _keys_are_long(cls, value: SecretStr) -> SecretStr:
        _keys_in(value.get_secret_value())
        return value

    @field_validator("signing_keys_file")
    @classmethod
    def _keys_can_be_read(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        if value is None:
            return value
        given = info.data.get("signing_keys")
        if given is not None and given.get_secret_value():
            raise ValueError(f"give either this or {ENV_PREFIX}SIGNING_KEYS, not both")
        if not _keys_in(_text_of(value)):
            raise ValueError(f"{value} holds no key; write one a line, the one that signs first")
        return value

    def read_signing_keys(self) -> SigningKeys:
        """The present keys. A key is never logged."""
        if self.signing_keys_file is not None:
            return SigningKeys(_keys_in(_text_of(self.signing_keys_file)))
        return SigningKeys(_keys_in(self.signing_keys.get_secret_value()))

    @field_validator("kafka_sasl_password_file")
    @classmethod
    def _password_can_be_read(cls, value: Path | None) -> Path | None:
        if value is not None and not read_password(value):
            raise ValueError("the file is empty; write the password into it")
        return value

    @field_validator("kafka_ssl_certfile")
    @classmethod
    def _certificate_can_be_shown(cls, value: Path | None, info: ValidationInfo) -> Path | None:
        keyfile, password = info.data.get("kafka_ssl_keyfile"), info.data.get("kafka_ssl_key_password")
        if value is not None:
            show_certificate(ssl.create_default_context(), value, keyfile, password)
        elif keyfile is not None:
            raise ValueError(f"needed, because {ENV_PREFIX}KAFKA_SSL_KEYFILE is set")
        return value

    def topic(self, topic: Topic) -> str:
        """The name under which this system keeps the topic."""
        return topic.named(self.topic_prefix)

    @property
    def client_id(self) -> str:
        return f"{self.component}@{socket.gethostname()}"


class PageAddress(Settings):
    """Where browsers find the page: for it, and for whoever names it to people."""

    web_url: str = ""
    """How browsers reach the page, such as https://spend.example; empty where nobody shall be sent to it."""

    @field_validator("web_url")
    @classmethod
    def _is_an_origin(cls, value: str) -> str:
        url = urlsplit(value)
        if value and (
            url.scheme not in ("http", "https")
            or not url.hostname
            or url.path.strip("/")
            or url.query
            or url.fragment
            or url.username is not None
            or not (value.isascii() and value.isprintable())
            or " " in value
        ):
            raise ValueError("this is no address of a site such as https://spend.example, without a path")
        return value.rstrip("/")


class ClickHouseSettings(Settings):
    """For the processes that read or write history."""

    clickhouse_url: str = Field(default="http://127.0.0.1:8123", pattern=r"^https?://")
    clickhouse_user: str = "default"
    clickhouse_password: SecretStr = SecretStr("")
    clickhouse_database: str = Field(default="spend", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    query_max_seconds: int = Field(default=60, ge=1, le=86_400)
    """A command's query is stopped after this time."""
    query_max_memory_bytes: int = Field(default=4 * 1024**3, ge=1024**2)
    """ClickHouse's memory for one query of a command."""

    @property
    def clickhouse_login(self) -> tuple[str, str]:
        """User and password: the URL's, if it has them, else those in the settings."""
        url = urlsplit(self.clickhouse_url)
        return (
            unquote(url.username) if url.username else self.clickhouse_user,
            unquote(url.password) if url.password else self.clickhouse_password.get_secret_value(),
        )

    @property
    def clickhouse_address(self) -> str:
        """The URL without user and password, so that it can be shown."""
        url = urlsplit(self.clickhouse_url)
        return urlunsplit(url._replace(netloc=url.netloc.rpartition("@")[2]))

    @field_validator("clickhouse_url")
    @classmethod
    def _server_is_named(cls, value: str) -> str:
        try:
            url = urlsplit(value)
            if url.hostname and (url.port is None or url.port > 0):
                return value
        except ValueError:
            pass
        raise ValueError("this is no URL with a host, such as https://clickhouse:8443")


def _keys_in(text: str) -> list[str]:
    """The keys, separated by commas or white space. Raises ValueError, without any part of a key."""
    keys = text.replace(",", " ").split()
    for number, key in enumerate(keys, 1):
        if not key.isascii():
            raise ValueError(
                f"key {number} holds other than ASCII text; make one with `openssl rand -hex 32`"
            )
        if len(key) < MIN_KEY_CHARACTERS:
            raise ValueError(
                f"key {number} has {len(key)} characters, fewer than {MIN_KEY_CHARACTERS};"
                " make one with `openssl rand -hex 32`"
            )
    return keys


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path} holds other than ASCII text") from None


def read_password(path: Path) -> str:
    """The file's text, without the line end. Raises ValueError."""
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ValueError(f"the file cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError("the file holds other than UTF-8 text") from None


def show_certificate(
    context: ssl.SSLContext, certfile: Path, keyfile: Path | None, password: SecretStr | None
) -> None:
    """Use this certificate for connections. Raises ValueError."""
    try:
        # Without a callback the library would prompt on the terminal.
        context.load_cert_chain(certfile, keyfile, lambda: password.get_secret_value() if password else "")
    except ssl.SSLError as error:
        raise ValueError(
            f"with {keyfile or 'its own key'} this is no certificate and its key in PEM format, or the key"
            f" is encrypted and {ENV_PREFIX}KAFKA_SSL_KEY_PASSWORD is not its password ({error.reason})"
        ) from None
    except OSError as error:
        raise ValueError(f"the file or {keyfile or 'its key'} cannot be read: {error.strerror}") from None


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Read and check the whole configuration, or report every problem at once and exit with 2."""
    try:
        return settings()
    except ValidationError as error:
        _refuse(error)


def _refuse(error: ValidationError) -> NoReturn:
    print("spendmeter cannot start; the configuration has these problems:", file=sys.stderr)
    for problem in problems_of(error):
        print(f"  {problem}", file=sys.stderr)
    raise SystemExit(2)


def problems_of(error: ValidationError) -> list[str]:
    """Each problem of a configuration in one sentence, without any secret."""
    return [_render_problem(found) for found in error.errors(include_url=False)]


def _render_problem(problem: ErrorDetails) -> str:
    if not problem["loc"]:
        return f"together: {what_is_wrong(problem)}"
    name = ENV_PREFIX + "_".join(str(part) for part in problem["loc"]).upper()
    # A URL may contain a password, too.
    given = re.sub(r"(?<=//).*@", "***@", repr(problem["input"]))
    secret = "PASSWORD" in name or "SIGNING_KEYS" in name or problem["input"] is None
    return f"{name}: {what_is_wrong(problem)}" + ("" if secret else f" (given: {given})")
