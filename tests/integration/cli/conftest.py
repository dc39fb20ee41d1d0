"""Commands run in this process, on the real broker."""

import datetime
import json
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from spendmeter.cli.main import main
from spendmeter.settings import Settings
from spendmeter.topics.create import create_topics
from spendmeter_local.kafka.broker import Broker
from spendmeter_local.ports import free_port
from spendmeter_local.probes import kafka_answers
from tests.conftest import _running

Spendmeter = Callable[..., Result]


@pytest.fixture
async def settings(kafka: str, topic_prefix: str, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A system of its own, which the commands find through the environment."""
    found = Settings(kafka_bootstrap=kafka, topic_prefix=topic_prefix, partitions=2)
    await create_topics(found)
    monkeypatch.setenv("SPENDMETER_KAFKA_BOOTSTRAP", kafka)
    monkeypatch.setenv("SPENDMETER_TOPIC_PREFIX", topic_prefix)
    return found


def spendmeter(*arguments: str, stdin: str | None = None, exit_code: int = 0) -> str:
    """What the command prints; it must end with that exit code."""
    result = CliRunner().invoke(main, list(arguments), input=stdin)
    assert result.exit_code == exit_code, result.output
    return result.output


def spendmeter_json(*arguments: str, stdin: str | None = None) -> Any:
    """What the command prints with --json."""
    return json.loads(spendmeter(*arguments, "--json", stdin=stdin))


class Secured(NamedTuple):
    """The ports of one broker, by what their listeners want."""

    plain: int
    sasl: int
    tls: int
    certificate: Path


def certificate(folder: Path) -> tuple[Path, str, str]:
    """Self-signed, for a name that is not the address; with its key, as PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "kafka.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.DNSName("kafka.example"), x509.IPAddress(IPv4Address("10.9.8.7"))]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    path = folder / "ca.pem"
    path.write_text(pem)
    return path, pem, private


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker that wants TLS or a password at some of its ports."""
    folder = tmp_path_factory.mktemp("secured")
    path, pem, private = certificate(folder)
    ports: list[int] = []
    for _ in range(4):
        ports.append(free_port(ports))
    controller, plain, sasl, tls = ports
    broker = Broker(folder, plain, controller)
    broker.prepare()
    listeners = {"PLAINTEXT": plain, "SASL_PLAINTEXT": sasl, "SSL": tls, "CONTROLLER": controller}
    more = {
        "listeners": ",".join(f"{name}://127.0.0.1:{port}" for name, port in listeners.items()),
        "listener.security.protocol.map": ",".join(
            f"{name}:{'PLAINTEXT' if name == 'CONTROLLER' else name}" for name in listeners
        ),
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": (
            "org.apache.kafka.common.security.plain.PlainLoginModule required"
            ' user_ann="right" user_gus="right";'
        ),
        # Gus may do what a test allows him; ann and whoever needs no password, everything.
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS;User:ann",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": pem.replace("\n", "\\n"),
        "ssl.keystore.key": private.replace("\n", "\\n"),
    }
    with broker.properties_path.open("a") as file:
        # Of a property that is given twice the last one counts.
        file.writelines(f"{name}={value}\n" for name, value in more.items())
    with _running(broker.command(), folder / "kafka.log", lambda: kafka_answers(broker.bootstrap)):
        yield Secured(plain, sasl, tls, path)
