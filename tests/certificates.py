"""A certificate authority of a test's own, and what it has signed: a server on loopback, and a client."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from spendmeter_local.ports import LOOPBACK

VALID_FOR = timedelta(days=2)
Key = ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its key, each in a file, and both in one as Kafka has them (PEM)."""

    certificate: Path
    key: Path
    both: Path


class Authority:
    """Signs; its own certificate is in `cafile`."""

    def __init__(self, directory: Path, name: str = "test CA") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _named(name)
        self.cafile = directory / "ca.pem"
        made = (
            _builder(self._name, self._name, self._key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True,
                    content_commitment=False,
                    key_encipherment=False,
                    data_encipherment=False,
                    key_agreement=False,
                    key_cert_sign=True,
                    crl_sign=True,
                    encipher_only=False,
                    decipher_only=False,
                ),
                critical=True,
            )
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self._key.public_key()), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        self.cafile.write_bytes(made.public_bytes(Encoding.PEM))

    def sign(self, name: str, *, password: str = "") -> Identity:
        """Of a server on loopback or of a client; with a password, its key's own file is encrypted."""
        key = ec.generate_private_key(ec.SECP256R1())
        on_loopback = [x509.IPAddress(ip_address(LOOPBACK)), x509.DNSName("localhost")]
        both_ways = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        made = (
            _builder(_named(name), self._name, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(on_loopback), critical=False)
            .add_extension(x509.ExtendedKeyUsage(both_ways), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False
            )
            .sign(self._key, hashes.SHA256())
        )
        certificate = made.public_bytes(Encoding.PEM)
        files = Identity(*(self._directory / f"{name}{end}.pem" for end in ("", "-key", "-both")))
        files.certificate.write_bytes(certificate)
        files.key.write_bytes(_pem(key, BestAvailableEncryption(password.encode()) if password else None))
        files.both.write_bytes(_pem(key, None) + certificate)
        return files


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + VALID_FOR)
    )


def _pem(key: Key, encryption: KeySerializationEncryption | None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())
