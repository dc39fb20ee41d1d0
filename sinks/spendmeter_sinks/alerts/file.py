"""Routes as people write them in YAML: read whole, or every problem with its line and its fix.

routes:
  - name: research-slack
    match: {team: research, kind: [threshold, exceeded, recovered]}
    to: {apprise: {url_env: RESEARCH_SLACK}}
    quiet: {from: "22:00", to: "07:00", timezone: Europe/Berlin, except: [exceeded]}

Pure, but for the secrets that it names: they are read here, so that a missing one is known before the start.
"""

import re
from collections.abc import Callable, Mapping
from datetime import time, timedelta
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import yaml
from pydantic import SecretStr

from spendmeter.contract.alert import AlertKind
from spendmeter.files.scalars import Wrong, fraction, money, nearest, one_of, text
from spendmeter.files.yaml import InvalidFile, Problem, YamlReader, line_of
from spendmeter.values.dimensions import DIMENSIONS
from spendmeter.values.times import time_zones
from spendmeter_sinks.alerts.message import wrong_fields
from spendmeter_sinks.alerts.payloads import signing_key
from spendmeter_sinks.alerts.routes import (
    MAX_AGE,
    MAX_REMINDERS,
    MAX_ROUTES,
    AlertMatch,
    Quiet,
    Reminders,
    Route,
    Service,
    Target,
)

ROUTE_FIELDS = {
    "name": "1 to 60 of A-Z, a-z, 0-9 and - _ . such as finance-slack",
    "match": "what an alert must be; without it, all are meant",
    "to": "one receiver, such as {webhook: {url_env: FINANCE_URL, secret_env: FINANCE_SECRET}}",
    "continue": "true: routes behind this one may have the alert, too",
    "title": "a template of one line",
    "template": "a template",
    "after": "an escalation: only what has not recovered for so long",
    "digest": "alerts of so long go out as one message",
    "quiet": "hours in which nothing is sent",
    "remind": "says an exceeded budget again",
    "max_age": "an alert that is older is not sent any more",
}
MATCH_FIELDS = ("kind", "budget", "share", "amount_usd", *DIMENSIONS)
_SERVICES = {
    "webhook": ("url", "url_env", "url_file", "secret_env", "secret_file", "format"),
    "alertmanager": ("url", "url_env", "url_file", "token_env", "token_file"),
    "apprise": ("url_env", "url_file"),
}
_FORMATS = ("standard", "litellm")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}")
_SPAN = re.compile(r"([0-9]{1,6})([smhdw])")
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_CLOCK = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
MIN_REMINDER = timedelta(minutes=1)

T = TypeVar("T")
UrlCheck = Callable[[str], str]
"""What is wrong with a URL of Apprise's, without a word of it; empty where nothing is."""


class InvalidRoutes(InvalidFile):
    """The file cannot be used; no relay starts with it."""


class Secrets(NamedTuple):
    """Where the secrets that a file names are found."""

    environment: Mapping[str, str]
    apprise: UrlCheck


def read_routes(written: str, name: str, secrets: Secrets | None) -> list[Route]:
    """The routes of a file. `name` is what its problems are reported under.

    `secrets`: None where nothing is to be sent; the routes then have none.

    Raises:
        InvalidRoutes: anything is wrong with any of them.
    """
    reader = _RouteReader(secrets)
    routes = reader.routes(written)
    if reader.problems:
        raise InvalidRoutes(name, reader.problems)
    return routes


class _RouteReader(YamlReader):
    def __init__(self, secrets: Secrets | None) -> None:
        super().__init__()
        self._secrets = secrets

    def routes(self, written: str) -> list[Route]:
        routes: list[Route] = []
        lines: dict[str, int] = {}
        nodes = self.items(written, "routes")
        if len(nodes) > MAX_ROUTES:
            self.report(nodes[MAX_ROUTES], f"there are more than {MAX_ROUTES} routes")
        for node in nodes[:MAX_ROUTES]:
            route = self._route(node)
            if route is None:
                continue
            if route.name in lines:
                first = lines[route.name]
                self.report(node, f"name {route.name!r} is in line {first} already; give each its own")
            lines.setdefault(route.name, line_of(node))
            routes.append(route)
        if not nodes and not self.problems:
            self.problems.append(Problem(1, "there are no routes, so nothing would be sent; add one"))
        self._report_unreached(nodes, routes)
        return routes

    def _report_unreached(self, nodes: list[yaml.Node], routes: list[Route]) -> None:
        """A route without a match has everything, and those behind it nothing."""
        for number, route in enumerate(routes[:-1]):
            if route.match == AlertMatch() and not route.goes_on and len(routes) == len(nodes):
                self.report(
                    nodes[number + 1],
                    f"no alert comes as far as this: route {route.name} has all of them; write"
                    " `continue: true` there, or put it last",
                )
                return

    def _route(self, node: yaml.Node) -> Route | None:
        before = len(self.problems)
        nodes = self.mapping(node, "a route", tuple(ROUTE_FIELDS))
        if not isinstance(node, yaml.MappingNode):
            return None
        for field in ("name", "to"):
            if field not in nodes:
                self.report(node, f"{field} is missing: {ROUTE_FIELDS[field]}")
        values: dict[str, Any] = {}
        for field, value in nodes.items():
            values |= self._try(value, field, partial(self._value, field)) or {}
        if len(self.problems) > before:
            return None
        route = Route(**values)
        self._report_together(route, nodes)
        return route

    def _try(self, node: yaml.Node, what: str, read: Callable[[yaml.Node], T]) -> T | None:
        try:
            return read(node)
        except Wrong as wrong:
            self.report(node, f"{what}: {wrong}")
            return None

    def _value(self, field: str, node: yaml.Node) -> dict[str, Any]:
        match field:
            case "name":
                return {"name": _name(node)}
            case "match":
                return {"match": self._match(node)}
            case "to":
                return {"target": self._target(node)}
            case "continue":
                return {"goes_on": one_of(node, ["true", "false"]) == "true"}
            case "title" | "template":
                return {field: self._template(field, node)}
            case "quiet":
                return {"quiet": self._quiet(node)}
            case "remind":
                return {"reminders": self._reminders(node)}
            case "max_age":
                return {"max_age": span_of(node)}
            case _:
                return {field: span_of(node)}

    def _match(self, node: yaml.Node) -> AlertMatch:
        kinds: frozenset[AlertKind] = frozenset()
        values: dict[str, Any] = {}
        subject: dict[str, tuple[str, ...]] = {}
        for field, value in self.mapping(node, "match", MATCH_FIELDS).items():
            what = f"match.{field}"
            match field:
                case "kind":
                    kinds = self._kinds(value, what)
                case "share":
                    values["share"] = self._try(value, what, _share)
                case "amount_usd":
                    values["amount_nanousd"] = self._try(value, what, money)
                case "budget":
                    values["budgets"] = self._texts(value, what)
                case _:
                    subject[field] = self._texts(value, what)
        return AlertMatch(kinds=kinds, subject=subject, **values)

    def _kinds(self, node: yaml.Node, what: str) -> frozenset[AlertKind]:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = [self._try(item, what, _kind) for item in items]
        return frozenset(kind for kind in found if kind)

    def _texts(self, node: yaml.Node, what: str) -> tuple[str, ...]:
        items = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found = [self._try(item, what, _some_text) for item in items]
        return tuple(one for one in found if one)

    def _template(self, field: str, node: yaml.Node) -> str:
        written = text(node)
        for wrong in wrong_fields(written):
            self.report(node, f"{field}: {wrong}")
        if field == "title" and "\n" in written.strip():
            raise Wrong("is one line; what is longer goes into `template`")
        return written

    def _quiet(self, node: yaml.Node) -> Quiet | None:
        nodes = self.mapping(node, "quiet", ("from", "to", "timezone", "except"))
        for field, hint in (("from", '"22:00"'), ("to", '"07:00"'), ("timezone", "such as Europe/Berlin")):
            if field not in nodes and isinstance(node, yaml.MappingNode):
                self.report(node, f"quiet.{field} is missing: {hint}")
        if not {"from", "to", "timezone"} <= set(nodes):
            return None
        begins = self._try(nodes["from"], "quiet.from", _clock)
        ends = self._try(nodes["to"], "quiet.to", _clock)
        zone = self._try(nodes["timezone"], "quiet.timezone", _zone)
        kinds = self._kinds(nodes["except"], "quiet.except") if "except" in nodes else frozenset()
        if begins is not None and begins == ends:
            self.report(nodes["to"], "quiet.to is quiet.from: that is the whole day; leave the route out")
        return Quiet(begins, ends, zone, kinds) if begins and ends and zone else None

    def _reminders(self, node: yaml.Node) -> Reminders | None:
        nodes = self.mapping(node, "remind", ("every", "at_most"))
        if "every" not in nodes:
            raise Wrong("has no `every`: how long it waits, such as 4h")
        every = self._try(nodes["every"], "remind.every", span_of)
        if every is not None and every < MIN_REMINDER:
            self.report(nodes["every"], "remind.every: is less than a minute; nobody reads that")
        at_most: int | None = MAX_REMINDERS
        if "at_most" in nodes:
            at_most = self._try(nodes["at_most"], "remind.at_most", _count)
        return Reminders(every, at_most) if every and at_most else None

    def _target(self, node: yaml.Node) -> Target | None:
        services = self.mapping(node, "to", tuple(_SERVICES))
        if len(services) != 1:
            if not self.problems or self.problems[-1].line != line_of(node):
                self.report(node, f"to: names one receiver, {' or '.join(_SERVICES)}; a route has one")
            return None
        [(service, options)] = services.items()
        nodes = self.mapping(options, f"to.{service}", _SERVICES[service])
        if not isinstance(options, yaml.MappingNode):
            return None
        url, named_by = self._url(service, options, nodes)
        token = "token" if service == "alertmanager" else "secret"
        secret, _ = self._secret(service, nodes, token)
        if secret and service == "webhook":
            self._check_key(nodes, secret)
        kind = Service(service)
        if "format" in nodes:
            read = self._try(nodes["format"], f"to.{service}.format", _format)
            kind = Service.LITELLM if read == "litellm" else kind
        return Target(kind, SecretStr(url), SecretStr(secret) if secret else None, named_by)

    def _url(self, service: str, options: yaml.Node, nodes: Mapping[str, yaml.Node]) -> tuple[str, str]:
        if "url" in nodes:
            node = nodes["url"]
            url = self._try(node, f"to.{service}.url", _open_url) or ""
            return url, url
        url, named_by = self._secret(service, nodes, "url")
        if not named_by:
            self.report(options, f"to.{service} has no URL: give url_env or url_file")
        if not url:
            return "", named_by
        node = nodes[f"url_{'env' if 'url_env' in nodes else 'file'}"]
        if service != "apprise":
            wrong = _wrong_url(url)
        else:
            wrong = self._secrets.apprise(url) if self._secrets else ""
        if wrong:
            self.report(node, f"to.{service}: {named_by} {wrong}")
        return url, named_by

    def _secret(self, service: str, nodes: Mapping[str, yaml.Node], what: str) -> tuple[str, str]:
        """The secret, and what it is named by; both empty where the file names none."""
        env, file = nodes.get(f"{what}_env"), nodes.get(f"{what}_file")
        if env is not None and (file is not None or (what == "url" and "url" in nodes)):
            self.report(env, f"to.{service}: give {what}_env or another, not both")
        node = env or file
        if node is None:
            return "", ""
        named_by = self._try(node, f"to.{service}", _some_text) or ""
        if not named_by or self._secrets is None:
            return "", named_by
        read = _from_environment if env is not None else _from_file
        field = f"to.{service}.{what}_{'env' if env is not None else 'file'}"
        secrets = self._secrets
        found = self._try(node, field, lambda _: read(named_by, secrets))
        return found or "", named_by

    def _check_key(self, nodes: Mapping[str, yaml.Node], secret: str) -> None:
        node = nodes.get("secret_env") or nodes["secret_file"]
        try:
            signing_key(secret)
        except ValueError as error:
            self.report(node, f"to.webhook: {text(node)} {error}")

    def _report_together(self, route: Route, nodes: Mapping[str, yaml.Node]) -> None:
        if route.target is not None and route.target.service is Service.LITELLM and route.digest is not None:
            self.report(
                nodes["digest"], "digest: LiteLLM's webhook has one event a call; leave out digest or format"
            )
        if route.after is not None and route.digest is not None:
            self.report(nodes["digest"], "digest: a route that waits (`after`) has none; make two routes")
        if route.after is not None and route.match.kinds == frozenset({AlertKind.RECOVERED}):
            self.report(nodes["after"], "after: what recovers does not escalate; match another kind")


def span_of(node: yaml.Node) -> timedelta:
    """`90s`, `30m`, `2h`, `3d` or `1w`."""
    written = text(node)
    found = _SPAN.fullmatch(written)
    if found is None or not int(found[1]):
        raise Wrong(f"{written!r} is no span of time; write 90s, 30m, 2h, 3d or 1w")
    length = timedelta(seconds=int(found[1]) * _UNITS[found[2]])
    if length > MAX_AGE:
        raise Wrong(f"{written} is more than {MAX_AGE.days} days, after which alerts are gone")
    return length


def _kind(node: yaml.Node) -> AlertKind:
    return AlertKind(one_of(node, [str(kind) for kind in AlertKind]))


def _format(node: yaml.Node) -> str:
    return one_of(node, _FORMATS)


def _name(node: yaml.Node) -> str:
    written = text(node)
    if _NAME.fullmatch(written) is None:
        raise Wrong(f"{written[:80]!r}: use {ROUTE_FIELDS['name']}")
    return written


def _some_text(node: yaml.Node) -> str:
    written = text(node)
    if not written.strip():
        raise Wrong("is empty")
    return written


def _share(node: yaml.Node) -> float:
    share = fraction(node)
    if not 0 < share <= 1_000:
        raise Wrong(f"{share} is no share of a limit, such as 0.8")
    return share


def _count(node: yaml.Node) -> int:
    written = text(node)
    if not written.isascii() or not written.isdecimal() or not 0 < int(written) <= 1_000:
        raise Wrong(f"{written[:20]!r} is no number from 1 to 1000")
    return int(written)


def _clock(node: yaml.Node) -> time:
    written = text(node)
    found = _CLOCK.fullmatch(written)
    if found is None:
        raise Wrong(f'{written!r} is no time of day; write it with quotes, "07:00" to "23:59"')
    return time(int(found[1]), int(found[2]))


def _zone(node: yaml.Node) -> ZoneInfo:
    written = text(node)
    if written not in time_zones():
        close = nearest(written, sorted(time_zones()))
        raise Wrong(f"{written!r} is no time zone; {close if '?' in close else 'such as Europe/Berlin'}")
    return ZoneInfo(written)


def _open_url(node: yaml.Node) -> str:
    """A URL that may stand in the file: it has no password and no query."""
    url = text(node)
    if wrong := _wrong_url(url):
        raise Wrong(wrong)
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        raise Wrong(
            "has a password or a query in it, which do not belong into the file; use url_env or url_file"
        )
    return url


def _wrong_url(url: str) -> str:
    """Without a word of it."""
    try:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0):
            return ""
    except ValueError:
        pass
    return "is no URL with a host, such as https://hooks.example.com/spend"


def _from_environment(name: str, secrets: Secrets) -> str:
    found = secrets.environment.get(name, "").strip()
    if not found:
        raise Wrong(f"{name} is not set; set it in the relay's environment, or name a file")
    return found


def _from_file(name: str, secrets: Secrets) -> str:
    try:
        found = Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise Wrong(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Wrong(f"{name} holds other than UTF-8 text") from None
    if not found:
        raise Wrong(f"{name} is empty; write the secret into it")
    return found
