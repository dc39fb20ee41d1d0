"""Tokens of forms: whoever sends one has been handed it by this process, for themselves, and lately. Pure."""

import hmac
import re
import secrets
from collections.abc import Callable
from typing import NamedTuple

VALID_SECONDS = 3_600
_SECRET_BYTES, _NONCE_BYTES = 32, 16
_FORM = re.compile(r"([A-Za-z0-9_-]{22})\.([0-9]{1,12})\.([0-9a-f]{64})")


class Form(NamedTuple):
    """A form that was handed out, and has come back."""

    holder: str
    nonce: str
    """Its name: what is sent twice has the same."""


class InvalidForm(ValueError):
    """The token is missing, another's, or old; the message says what to do."""


class FormTokens:
    """A secret of this process signs them, so nothing is kept of a form that nobody sends."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        self._secret = secrets.token_bytes(_SECRET_BYTES)
        self._clock = clock

    def issue(self, holder: str) -> str:
        """A token for one form of this holder."""
        nonce, now = secrets.token_urlsafe(_NONCE_BYTES), int(self._clock())
        return f"{nonce}.{now}.{self._mac(holder, nonce, now)}"

    def accept(self, holder: str, token: str) -> Form:
        """The form that it belongs to. Raises InvalidForm."""
        found = _FORM.fullmatch(token)
        if found is None:
            raise InvalidForm("this form came without its token; send it from this page")
        nonce, issued, mac = found[1], int(found[2]), found[3]
        if not hmac.compare_digest(self._mac(holder, nonce, issued), mac):
            raise InvalidForm("this form was not made for this sign-in; here is a fresh one")
        if self._clock() - issued > VALID_SECONDS:
            raise InvalidForm("this form is more than an hour old; here is a fresh one")
        return Form(holder, nonce)

    def _mac(self, holder: str, nonce: str, issued: int) -> str:
        said = f"{nonce}.{issued}.{holder}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._secret, said, "sha256").hex()
