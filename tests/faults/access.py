"""Who a cluster lets in, and how each kind of client shows who it is: SCRAM over TLS, or a certificate.

`python -m tests.faults.access --dir DIR --bootstrap SERVERS` gives the users the passwords in their files.
"""

import asyncio
import secrets
from pathlib import Path
from typing import NamedTuple

import click

from spendmeter.files.text import write_atomically
from spendmeter.runtime.endpoints import StackDir
from tests.certificates import Authority
from tests.faults.cluster import Cluster

SESSION_MS = 45_000
"""A connection is at its end then, whatever it does: aiokafka shows its password on a new one."""


class Access(NamedTuple):
    """How one kind of client comes in; without a mechanism it shows a certificate."""

    protocol: str
    mechanism: str | None


ACCESS = {
    "gateway": Access("SASL_SSL", "SCRAM-SHA-512"),
    "stream": Access("SSL", None),
    "sink": Access("SASL_SSL", "SCRAM-SHA-256"),
}


class Files:
    """What access is made of, in a stack's directory. The same at each call."""

    def __init__(self, stack: StackDir) -> None:
        self._directory = stack.path / "access"
        if not (self._directory / "ca.pem").exists():
            authority = Authority(self._directory)
            for name in ("server", "client"):
                authority.sign(name)
            for client, access in ACCESS.items():
                if access.mechanism:
                    self.write_password(client, new_password())

    def password_file(self, client: str) -> Path:
        return self._directory / f"{client}.password"

    def write_password(self, client: str, password: str) -> None:
        """What the client's processes will show from now on."""
        write_atomically(self.password_file(client), f"{password}\n", mode=0o600)

    def env(self, client: str) -> dict[str, str]:
        """The settings by which a client comes in."""
        access = ACCESS[client]
        env = {
            "SPENDMETER_KAFKA_SECURITY_PROTOCOL": access.protocol,
            "SPENDMETER_KAFKA_SSL_CAFILE": str(self._directory / "ca.pem"),
        }
        if access.mechanism is None:
            return env | {
                "SPENDMETER_KAFKA_SSL_CERTFILE": str(self._directory / "client.pem"),
                "SPENDMETER_KAFKA_SSL_KEYFILE": str(self._directory / "client-key.pem"),
            }
        return env | {
            "SPENDMETER_KAFKA_SASL_MECHANISM": access.mechanism,
            "SPENDMETER_KAFKA_SASL_USERNAME": client,
            "SPENDMETER_KAFKA_SASL_PASSWORD_FILE": str(self.password_file(client)),
        }

    def properties(self) -> str:
        """What a node needs for the listeners of all clients, which bear their names."""
        lines = [
            "ssl.keystore.type=PEM",
            f"ssl.keystore.location={self._directory / 'server-both.pem'}",
            "ssl.truststore.type=PEM",
            f"ssl.truststore.location={self._directory / 'ca.pem'}",
        ]
        for client, (_, mechanism) in ACCESS.items():
            listener = f"listener.name.{client}"
            if mechanism is None:
                lines.append(f"{listener}.ssl.client.auth=required")
                continue
            module = "org.apache.kafka.common.security.scram.ScramLoginModule"
            lines += [
                f"{listener}.sasl.enabled.mechanisms={mechanism}",
                f"{listener}.{mechanism.lower()}.sasl.jaas.config={module} required;",
                f"{listener}.connections.max.reauth.ms={SESSION_MS}",
            ]
        return "\n".join([*lines, ""])


def new_password() -> str:
    """One that no file has had yet."""
    return secrets.token_urlsafe(16)


async def set_password(cluster: Cluster, client: str, password: str) -> None:
    """What Kafka expects of the client from now on."""
    mechanism = ACCESS[client].mechanism
    assert mechanism is not None, f"{client} shows a certificate"
    await cluster.set_password(client, mechanism, password)


async def _admit_all(files: Files, bootstrap: str) -> None:
    cluster = Cluster(bootstrap, 0)
    for client, access in ACCESS.items():
        if access.mechanism:
            await set_password(cluster, client, files.password_file(client).read_text().strip())


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True)
@click.option("--bootstrap", required=True)
def main(directory: Path, bootstrap: str) -> None:
    """Admit every kind of client with its password."""
    asyncio.run(_admit_all(Files(StackDir(directory)), bootstrap))


if __name__ == "__main__":
    main()
