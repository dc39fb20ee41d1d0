"""Explains errors of Kafka in one sentence, with the setting that corrects them."""

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    BrokerResponseError,
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    NodeNotReadyError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnknownTopicOrPartitionError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from spendmeter.kafka.client import connection
from spendmeter.settings import Settings
from spendmeter.visible import one_line

CONNECT_WITHIN_SECONDS = 10.0
MAX_SERVERS_TRIED = 3
# From OpenSSL's x509_vfy.h.
_HAS_EXPIRED, _OTHER_HOST, _OTHER_ADDRESS = 10, 62, 64


def render_kafka_error(error: KafkaError) -> str:
    """A short text for an error of aiokafka: its own message, else the protocol's text for its code."""
    said = one_line(" ".join(str(part) for part in error.args if isinstance(part, str)))
    if isinstance(error, BrokerResponseError) and not said:
        said = one_line(error.description or "")
    return said or type(error).__name__


async def explained(error: KafkaError, settings: Settings) -> str:
    """An error of Kafka in one sentence, and what to do; if there is no connection, the reason."""
    match error:
        case KafkaConnectionError() | NodeNotReadyError():
            return await why_unreachable(settings)
        case (
            TopicAuthorizationFailedError()
            | GroupAuthorizationFailedError()
            | ClusterAuthorizationFailedError()
        ):
            who = settings.kafka_sasl_username or "anonymous clients"
            said = (
                f"Kafka at {settings.kafka_bootstrap} does not allow {who} this ({render_kafka_error(error)})"
            )
            return f"{said}; grant it with an ACL"
        case UnknownTopicOrPartitionError():
            return render_kafka_error(error)
    said = render_kafka_error(error)
    return f"Kafka at {settings.kafka_bootstrap}: {said}; `spendmeter status` says what runs here"


def bootstrap_servers(settings: Settings) -> list[tuple[str, int]]:
    """Host and port of each server in the settings, in their order."""
    return [(host, port) for host, port, _ in collect_hosts(settings.kafka_bootstrap, randomize=False)]


async def why_unreachable(settings: Settings) -> str:
    """Connect again to each bootstrap server, step by step; returns the failing step and the reason."""
    reasons = []
    for host, port in bootstrap_servers(settings)[:MAX_SERVERS_TRIED]:
        reason = await why_server_fails(settings, host, port)
        if reason is None:
            return f"Kafka at {settings.kafka_bootstrap} answers again; run the same command once more"
        reasons.append(reason)
    return "; ".join(reasons)


async def why_server_fails(settings: Settings, host: str, port: int) -> str | None:
    """The failing step to this server and the brokers that it names, and the reason; None if all works."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
            kafka = await create_conn(host, port, **_arguments(settings))
    except (OSError, EOFError, KafkaError) as error:
        return await _of_connecting(settings, host, port, error)
    try:
        async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
            metadata = await kafka.send(MetadataRequest([]))
    except (OSError, EOFError, KafkaError):
        return (
            f"Kafka at {_at(host, port)} closes the connection at the first request: its listener"
            f" wants to know who asks; set {_protocol(settings, 'SASL_')}, with user and password"
        )
    finally:
        if (closed := kafka.close()) is not None:
            await asyncio.wait([closed], timeout=CONNECT_WITHIN_SECONDS)
    return await _of_brokers(metadata, host, port)


def _arguments(settings: Settings) -> dict[str, Any]:
    arguments = connection(settings)
    del arguments["bootstrap_servers"]
    return arguments


async def _of_connecting(settings: Settings, host: str, port: int, error: Exception) -> str:
    at, cause = _at(host, port), _root(error)
    user = settings.kafka_sasl_username
    match cause:
        case socket.gaierror():
            return (
                f"the name {host!r} in SPENDMETER_KAFKA_BOOTSTRAP cannot be resolved"
                f" ({one_line(cause.strerror or str(cause))}); correct it"
            )
        case ssl.SSLCertVerificationError():
            return _of_certificate(cause, host, at)
        case ssl.SSLError():
            return _of_tls(settings, at, f"{cause.reason or cause}".replace("_", " ").lower())
        case SaslAuthenticationFailed():
            return (
                f"Kafka at {at} refuses user {user!r}: {render_kafka_error(cause)}; correct"
                " SPENDMETER_KAFKA_SASL_USERNAME and SPENDMETER_KAFKA_SASL_PASSWORD, or"
                f" SPENDMETER_KAFKA_SASL_MECHANISM ({settings.kafka_sasl_mechanism})"
            )
        case UnsupportedSaslMechanismError():
            return (
                f"Kafka at {at} has no {settings.kafka_sasl_mechanism} ({render_kafka_error(cause)});"
                " correct SPENDMETER_KAFKA_SASL_MECHANISM"
            )
        case IllegalSaslStateError():
            return (
                f"the listener of Kafka at {at} wants no user and password;"
                f" set {_protocol(settings, '')}, or name another port"
            )
        case ConnectionRefusedError():
            return (
                f"nothing answers at {at} (connection refused); start Kafka (`spendmeter status` says what"
                " runs here), or correct SPENDMETER_KAFKA_BOOTSTRAP"
            )
        case TimeoutError():
            return (
                f"nothing answers at {at} within {CONNECT_WITHIN_SECONDS:g} s; correct"
                " SPENDMETER_KAFKA_BOOTSTRAP, or let the connection through the firewall"
            )
    if settings.kafka_security_protocol.endswith("SSL"):
        return _of_tls(settings, at, "the connection was closed")
    if await _speaks_tls(host, port):
        return f"Kafka at {at} speaks TLS; set {_protocol(settings, tls=True)}"
    if isinstance(cause, KafkaConnectionError | EOFError | ConnectionError):
        return (
            f"what answers at {at} closes the connection: it is no Kafka, or wants another"
            f" SPENDMETER_KAFKA_SECURITY_PROTOCOL than {settings.kafka_security_protocol}"
        )
    said = cause.strerror if isinstance(cause, OSError) and cause.strerror else str(cause)
    return f"{at} cannot be reached ({one_line(said)}); correct SPENDMETER_KAFKA_BOOTSTRAP"


def _of_certificate(error: ssl.SSLCertVerificationError, host: str, at: str) -> str:
    match error.verify_code:
        case code if code in (_OTHER_HOST, _OTHER_ADDRESS):
            mended = f"use the name that it is for in SPENDMETER_KAFKA_BOOTSTRAP, not {host!r}"
        case code if code == _HAS_EXPIRED:
            mended = "renew it at the broker"
        case _:
            mended = "name the file with its CA's certificate in SPENDMETER_KAFKA_SSL_CAFILE"
    said = one_line(error.verify_message or str(error)).rstrip(".")
    return f"the certificate of Kafka at {at} cannot be verified ({said}); {mended}"


def _of_tls(settings: Settings, at: str, said: str) -> str:
    return (
        f"the TLS handshake with Kafka at {at} fails ({one_line(said)}); a listener without TLS needs"
        f" {_protocol(settings, tls=False)}; one that wants a client's certificate,"
        " SPENDMETER_KAFKA_SSL_CERTFILE and its key"
    )


def _protocol(settings: Settings, prefix: str | None = None, *, tls: bool | None = None) -> str:
    """`SPENDMETER_KAFKA_SECURITY_PROTOCOL=…`: the present one with or without SASL, with or without TLS."""
    now = settings.kafka_security_protocol
    sasl = ("SASL_" if now.startswith("SASL_") else "") if prefix is None else prefix
    channel = now.removeprefix("SASL_") if tls is None else "SSL" if tls else "PLAINTEXT"
    return f"SPENDMETER_KAFKA_SECURITY_PROTOCOL={sasl}{channel}"


async def _of_brokers(metadata: Any, host: str, port: int) -> str | None:
    """A server may refer us to brokers with names or ports that cannot be reached from here."""
    for broker in list(metadata.brokers)[:MAX_SERVERS_TRIED]:
        _, to, at, *_ = broker
        try:
            async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
                _, writer = await asyncio.open_connection(to, at)
            await _closed(writer)
        except OSError as error:
            said = one_line(error.strerror or str(error) or "no answer")
            return (
                f"Kafka at {_at(host, port)} answers, but sends clients to {_at(to, at)}, which cannot be"
                f" reached from here ({said}); correct `advertised.listeners` of the broker"
            )
    return None


async def _speaks_tls(host: str, port: int) -> bool:
    anybody = ssl.create_default_context()
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(CONNECT_WITHIN_SECONDS):
            _, writer = await asyncio.open_connection(host, port, ssl=anybody)
    except (OSError, EOFError):
        return False
    await _closed(writer)
    return True


async def _closed(writer: asyncio.StreamWriter) -> None:
    # Not in TLS's own way, for which the other side would have to answer.
    writer.transport.abort()
    with suppress(OSError):
        await writer.wait_closed()


def _root(error: Exception) -> BaseException:
    """The cause behind aiokafka's error that the connection was closed."""
    return next(iter(_known_causes(error)), error)


def _known_causes(error: BaseException | None) -> Iterator[BaseException]:
    for _ in range(5):
        if error is None:
            return
        if isinstance(error, OSError | BrokerResponseError) and not isinstance(error, ConnectionResetError):
            yield error
        error = error.__cause__


def _at(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
