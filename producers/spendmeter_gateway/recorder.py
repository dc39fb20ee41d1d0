"""The recorder: appends an event to the outbox and counts it as own spend in the same step."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import datetime
from typing import Any
from uuid import UUID

from prometheus_client import Counter

from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter_gateway.admission.state import GatewayState
from spendmeter_gateway.model import Origin, UsageDraft
from spendmeter_gateway.outbox.writer import LOST, Outbox, OutboxFull, OutboxUnwritable
from spendmeter_gateway.settings import GatewaySettings
from spendmeter_gateway.spend.pending import AnsweredCall

log = logging.getLogger(__name__)

UNPRICED = Counter("spendmeter_unpriced_total", "Events of a model whose price is not known.", ["model"])
REPEATED = Counter("spendmeter_repeated_events_total", "Events that LiteLLM logged again, dropped.")
DOUBTED = Counter(
    "spendmeter_doubted_costs_total", "Costs that LiteLLM reported and that cannot be right.", ["reason"]
)

# If LiteLLM repeats an event, it does so within seconds (#5118, #31121).
MAX_EVENTS_REMEMBERED = 10_000
# An answer that LiteLLM logged before the request path reported it is at most this many requests old.
MAX_REQUESTS_REMEMBERED = 10_000
MAX_MODELS_DISTINGUISHED = 1_000
_OTHER_MODELS = "other"


class Recorder:
    """Records drafts. It never raises: an event that cannot be recorded is counted and logged as lost."""

    def __init__(
        self, settings: GatewaySettings, views: GatewayState, on_recorded: Callable[[bool], None]
    ) -> None:
        self._gateway = settings.gateway
        self._leaves_out_email = settings.user_email == "leave_out"
        self._views = views
        self._on_recorded = on_recorded
        self._seen: OrderedDict[UUID, None] = OrderedDict()
        self._ended: OrderedDict[Hashable, None] = OrderedDict()
        self._unpriced_models: set[str] = set()
        self.outbox: Outbox | None = None
        """None while the file system refuses one."""

    def answered(self, request: UUID, draft: UsageDraft, begun_at: datetime) -> None:
        """Count the cost of an answer until `record` or `end`, which may have come earlier.

        In one step this cost replaces the request's hold, which is an upper bound. The event will have
        the request's id, so that a refusal can name it before it is recorded.
        """
        event = draft.finish(Origin("pending", self._gateway), 1, request)
        with self._views.lock:
            if request not in self._ended and self._views.answered(event, begun_at):
                self._views.strict.release(request)

    def end(self, request: Hashable) -> None:
        """End a request that costs nothing more than what was recorded."""
        with self._views.lock:
            self._views.strict.release(request)
            self._end(request)

    def record(self, draft: UsageDraft, ends: Hashable = None) -> UsageEvent | None:
        """Record and count one event; returns it, or None if it was already known.

        `ends` is the request that ends with it: in one step this cost replaces its hold or its answer's
        cost. A request may have several events; the first that ends it has its id.
        """
        if self._leaves_out_email and draft.fields.get("user_email"):
            draft = draft._replace(fields={**draft.fields, "user_email": None})
        with self._views.lock:
            if ends is not None:
                self._views.strict.release(ends)
            event_id: UUID = draft.fields["event_id"]
            if event_id in self._seen:
                REPEATED.inc()
                return None
            _remember(self._seen, event_id, MAX_EVENTS_REMEMBERED)
            answered = None
            if isinstance(ends, UUID) and ends not in self._ended:
                answered = self._end(ends)
                # The id of an object's bill comes from no request.
                event_id = event_id if draft.fields.get("object_id") else ends
            event, is_urgent = self._append(draft, event_id)
        if answered is not None:
            answered.note_event(event)
        self._on_recorded(is_urgent)
        self._notify(event, draft.doubt)
        return event

    def has_recorded(self, event_id: UUID) -> bool:
        """Whether that event was recorded, as far as remembered."""
        return event_id in self._seen

    def close(self) -> None:
        """Stop recording: a concurrent call comes first, or its event counts as lost. Raises OSError."""
        with self._views.lock:
            if self.outbox is not None:
                self.outbox.close()

    def _append(self, draft: UsageDraft, event_id: UUID) -> tuple[UsageEvent, bool]:
        """The event as recorded and counted, and whether it is urgent."""
        if self.outbox is not None:
            origin = Origin(self.outbox.producer_id, self._gateway)
            try:
                event = self.outbox.append(lambda seq: draft.finish(origin, seq, event_id))
            except (OutboxFull, OutboxUnwritable):
                pass
            else:
                return event, self._views.count(event, is_recorded=True)
        else:
            LOST.labels("unwritable").inc()
        # It cost money all the same, so this gateway counts it. An object's bill comes again with its next
        # read.
        if draft.fields.get("object_id"):
            self._seen.pop(event_id, None)
        event = draft.finish(Origin("lost", self._gateway), 1, event_id)
        return event, self._views.count(event, is_recorded=False)

    def _end(self, request: Hashable) -> AnsweredCall | None:
        """The cost of the request's answer, which no longer counts; None if it was unknown."""
        _remember(self._ended, request, MAX_REQUESTS_REMEMBERED)
        return self._views.pending.settle(request) if isinstance(request, UUID) else None

    def _notify(self, event: UsageEvent, doubt: str | None) -> None:
        if event.cost_doubt:
            DOUBTED.labels(event.cost_doubt.value).inc()
        if doubt is not None:
            log.warning("event %s, model %s: %s", event.event_id, event.model, doubt)
        if event.cost_source is not CostSource.UNPRICED:
            return
        model = event.model
        if model not in self._unpriced_models:
            if len(self._unpriced_models) >= MAX_MODELS_DISTINGUISHED:
                model = _OTHER_MODELS
            else:
                self._unpriced_models.add(model)
                log.warning("no price is known for model %s: its requests count as unpriced, not free", model)
        UNPRICED.labels(model).inc()


def _remember(known: OrderedDict[Any, None], one: Hashable, most: int) -> None:
    known[one] = None
    if len(known) > most:
        known.popitem(last=False)
