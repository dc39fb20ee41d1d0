"""How Faust's own Kafka clients reach the cluster: as all others of ours do."""

from faust.auth import Credentials, SASLCredentials, SSLCredentials

from spendmeter.runtime.kafka import connection
from spendmeter.runtime.settings import Settings


def credentials(settings: Settings) -> Credentials | None:
    """The settings' TLS and SASL in Faust's form; None for a plaintext connection without either."""
    needed = connection(settings)
    if "sasl_mechanism" in needed:
        return SASLCredentials(
            username=needed["sasl_plain_username"],
            password=needed["sasl_plain_password"],
            mechanism=needed["sasl_mechanism"],
            ssl_context=needed.get("ssl_context"),
        )
    return SSLCredentials(needed["ssl_context"]) if "ssl_context" in needed else None
