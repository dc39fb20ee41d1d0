"""Recording: an event into the outbox, and counted as own spend in the same step."""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable
from uuid import UUID

from prometheus_client import Counter

from producers.mapping import Origin, UsageDraft
from producers.outbox import LOST, Outbox, OutboxFull, OutboxUnwritable
from producers.settings import GatewaySettings
from producers.views import Views
from spendmeter.contract.usage import CostSource, UsageEvent

log = logging.getLogger(__name__)

UNPRICED = Counter("spendmeter_unpriced_total", "Events of a model whose price is not known.", ["model"])
REPEATED = Counter("spendmeter_repeated_events_total", "Events that LiteLLM logged again, dropped.")
DOUBTED = Counter("spendmeter_doubted_costs_total", "Costs that LiteLLM reported and that cannot be.")

# LiteLLM repeats an event within seconds where it does at all (#5118, #31121).
MAX_EVENTS_REMEMBERED = 10_000
MAX_MODELS_TOLD_APART = 1_000
_OTHER_MODELS = "other"


class Recorder:
    """Records drafts. It never raises: what cannot be recorded is counted and logged as lost."""

    def __init__(self, settings: GatewaySettings, views: Views, on_recorded: Callable[[], None]) -> None:
        self._gateway = settings.gateway
        self._views = views
        self._on_recorded = on_recorded
        self._seen: OrderedDict[UUID, None] = OrderedDict()
        self._unpriced_models: set[str] = set()
        self.outbox: Outbox | None = None
        """None while the file system gives no place for one."""

    def record(self, draft: UsageDraft, ends: Hashable = None) -> UsageEvent | None:
        """Record and count one event; returns it, or None where it was known already.

        `ends` is the request that has ended with it: its hold becomes this cost in one step.
        """
        with self._views.lock:
            if ends is not None:
                self._views.strict.release(ends)
            event_id = draft.fields["event_id"]
            if event_id in self._seen:
                REPEATED.inc()
                return None
            self._remember(event_id)
            event = self._append(draft)
        self._on_recorded()
        self._tell(event, draft.doubt)
        return event

    def _append(self, draft: UsageDraft) -> UsageEvent:
        if self.outbox is not None:
            origin = Origin(self.outbox.producer_id, self._gateway)
            try:
                event = self.outbox.append(lambda seq: draft.finish(origin, seq))
            except (OutboxFull, OutboxUnwritable):
                pass
            else:
                self._views.count(event, is_recorded=True)
                return event
        else:
            LOST.labels("unwritable").inc()
        # It cost money all the same, and this gateway knows.
        event = draft.finish(Origin("lost", self._gateway), 1)
        self._views.count(event, is_recorded=False)
        return event

    def _remember(self, event_id: UUID) -> None:
        self._seen[event_id] = None
        if len(self._seen) > MAX_EVENTS_REMEMBERED:
            self._seen.popitem(last=False)

    def _tell(self, event: UsageEvent, doubt: str | None) -> None:
        if doubt is not None:
            DOUBTED.inc()
            log.warning("event %s, model %s: %s", event.event_id, event.model, doubt)
        if event.cost_source is not CostSource.UNPRICED:
            return
        model = event.model
        if model not in self._unpriced_models:
            if len(self._unpriced_models) >= MAX_MODELS_TOLD_APART:
                model = _OTHER_MODELS
            else:
                self._unpriced_models.add(model)
                log.warning("no price is known for model %s: its requests count as unpriced, not free", model)
        UNPRICED.labels(model).inc()
