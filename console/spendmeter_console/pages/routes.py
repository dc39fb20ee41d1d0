"""Every page."""

import time
from pathlib import Path

from starlette.routing import BaseRoute, Mount
from starlette.staticfiles import StaticFiles

from spendmeter_console.access.forms import FormTokens
from spendmeter_console.access.people import People
from spendmeter_console.access.sessions import Sessions
from spendmeter_console.api.routes import Sources
from spendmeter_console.changes.desk import ChangeDesk
from spendmeter_console.pages.alerts import AlertPages
from spendmeter_console.pages.budgets import BudgetPages
from spendmeter_console.pages.changes import ChangePages
from spendmeter_console.pages.events import EventPages
from spendmeter_console.pages.explore import ExplorePages
from spendmeter_console.pages.health import HealthPages, MetricsPages
from spendmeter_console.pages.live import LiveStream
from spendmeter_console.pages.overview import OverviewPages
from spendmeter_console.pages.prices import PricePages
from spendmeter_console.pages.refusals import RefusalPages
from spendmeter_console.pages.sign_in import SignInPages
from spendmeter_console.settings import ConsoleSettings

STATIC = Path(__file__).parent / "static"


def routes(
    sources: Sources,
    settings: ConsoleSettings,
    people: People,
    sessions: Sessions,
    desk: ChangeDesk,
    metrics: MetricsPages,
) -> list[BaseRoute]:
    """Each page's addresses, and the files that browsers load beside them."""
    return [
        *OverviewPages(sources).routes(),
        *ChangePages(sources, settings, desk, FormTokens(time.monotonic)).routes(),
        *BudgetPages(sources, settings, desk).routes(),
        *ExplorePages(sources).routes(),
        *EventPages(sources).routes(),
        *RefusalPages(sources).routes(),
        *AlertPages(sources).routes(),
        *PricePages(sources).routes(),
        *HealthPages(sources, metrics).routes(),
        *SignInPages(sources, settings, people, sessions).routes(),
        *LiveStream(sources).routes(),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]
