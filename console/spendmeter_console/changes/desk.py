"""Carries changes out, each once, and in the name of who wants it."""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import NamedTuple

from spendmeter.client import SpendmeterClient, connect
from spendmeter.kafka.client import KafkaError
from spendmeter.kafka.errors import explained
from spendmeter.settings import Settings
from spendmeter.topics.budgets import BudgetTopic
from spendmeter.visible import one_line
from spendmeter_console.access.forms import Form

log = logging.getLogger(__name__)

CHANGE_WITHIN_SECONDS = 20.0
MAX_REMEMBERED = 10_000
MAX_WAITING = 10
"""Changes that wait for the one before; each has its turn, so that it sees what that one did."""
Work = Callable[[SpendmeterClient], Awaitable[str]]
"""Makes the change, and returns the sentence that says what was done."""


_UNCERTAIN = (
    "Kafka has not acknowledged the change, but may have stored it; see what is in force, then try again"
)
_AWAY = "Kafka does not answer, so nothing was changed; try again once it does"


class ChangeUncertain(Exception):
    """Kafka did not answer; the message says whether the change may be in force."""


class TooManyChanges(Exception):
    """More wait than can be carried out soon."""


class AnotherChange(Exception):
    """The form was sent before with other content; that is in force, and this is not."""


class _Done(NamedTuple):
    holder: str
    content: bytes
    """Its hash: a form may be long."""
    sentence: str


class ChangeDesk:
    """What was done by a form that is sent again is known, so that nothing is done twice."""

    def __init__(self, settings: Settings, topic: BudgetTopic) -> None:
        """`topic`: running; a change is made on top of its latest record."""
        self._settings = settings
        self._topic = topic
        self._done: OrderedDict[str, _Done] = OrderedDict()
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.signs = bool(settings.read_signing_keys())
        """Whether changes are signed; without a key their author is shown as claimed."""

    def sentence(self, holder: str, nonce: str) -> str:
        """What the form with this nonce has done; empty of one that has done nothing, or is another's."""
        done = self._done.get(nonce)
        return done.sentence if done is not None and done.holder == holder else ""

    async def carry_out(self, form: Form, content: str, by: str, work: Work) -> None:
        """Return once the change is in force, and this process has read it.

        One change at a time: `work` sees what those before it did.

        Args:
            content: all that the form asks for; the same form with the same content does nothing more.
            by: the author in the audit trail.

        Raises:
            AnotherChange, ChangeUncertain, TooManyChanges, and whatever `work` raises: nothing was done.
        """
        if self._waiting >= MAX_WAITING:
            raise TooManyChanges("many changes are waiting; try again in a moment")
        self._waiting += 1
        try:
            async with asyncio.timeout(CHANGE_WITHIN_SECONDS), self._turn:
                await self._once(form, content, by, work)
        except TimeoutError:
            raise ChangeUncertain(_UNCERTAIN) from None
        finally:
            self._waiting -= 1

    async def _once(self, form: Form, content: str, by: str, work: Work) -> None:
        done, digest = self._done.get(form.nonce), sha256(content.encode(errors="replace")).digest()
        if done is not None:
            if (done.holder, done.content) != (form.holder, digest):
                raise AnotherChange("this form was sent before, for another change; begin with a fresh one")
            return
        is_begun = False
        try:
            async with connect(self._settings, followed=self._topic, by=by) as client:
                is_begun = True
                sentence = await work(client)
                await self._topic.catch_up()
                self._done[form.nonce] = _Done(form.holder, digest, sentence)
        except KafkaError as error:
            log.warning("a change was not acknowledged: %s", await explained(error, self._settings))
            raise ChangeUncertain(_UNCERTAIN if is_begun else _AWAY) from None
        log.info("changed by %s: %s", one_line(by), one_line(content))
        if len(self._done) > MAX_REMEMBERED:
            self._done.popitem(last=False)
