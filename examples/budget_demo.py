"""A budget is spent, refused, raised and served again: told by an ordinary HTTP client of a LiteLLM proxy.

    python budget_demo.py --base-url http://localhost:4000 --master-key sk-… --clickhouse-url http://localhost:8123

Needs `httpx` or `requests`, a LiteLLM proxy with spendmeter attached, and virtual keys: LiteLLM's own
with its database, or the local stack's. Whatever it says was read from an answer: costs from the
header `x-litellm-response-cost`, the figures of the stream and of history from ClickHouse (optional; its
user and password are CLICKHOUSE_USER and CLICKHOUSE_PASSWORD of the environment).
"""

import argparse
import json
import os
import shutil
import sys
import textwrap
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict
from decimal import Decimal
from itertools import cycle
from typing import Any

from budget_demo_clients import (
    ALERTS,
    DECISION,
    SIGNAL,
    SIGNAL_LATENCY,
    SPENT,
    UNPRICED_ALERTS,
    UNPRICED_EVENTS,
    WITHIN_SECONDS,
    Call,
    History,
    Proxy,
)

BUDGET_USD, RAISED_USD = Decimal("0.001"), Decimal("0.002")
WARN_AT = Decimal("0.8")  # where a budget warns unless it is told otherwise
MAX_CALLS = 200
# LiteLLM knows the prices of the first three; the fourth has a price of its owner's; the last has none.
MODELS = ["gpt-4o-mini", "gpt-4o", "claude-sonnet-4-5", "self-hosted-llama"]
UNPRICED, UNPRICED_CALL = "unpriced-experiment", 5
PROMPTS = [
    "What is a budget?",
    "Why do invoices for language models surprise people?",
    "Explain tokens to my grandmother in one sentence.",
    "Who pays when an agent loops all night?",
    "Write a haiku about the end of the month.",
    "Name three ways to spend less on prompts.",
]
SPENT_BY = {
    "producer": "the proxy's answers, added up",
    "stream": "the stream's latest signal",
    "history": "ClickHouse, sum(cost_usd)",
    "key_info": "GET /key/info",
}
VERDICTS = {True: "equal to the nano-dollar", False: "NOT EQUAL", None: "no --clickhouse-url to compare with"}
COLUMNS = shutil.get_terminal_size((160, 24)).columns
IS_WIDE = COLUMNS >= 150
"""Room for prompts and replies; a terminal of 80 columns has none."""
TEXTS = f" {'prompt':<34} {'reply':<34}" if IS_WIDE else ""
HEADINGS = f"  {'#':>3}  {'model':<20}{TEXTS} {'in':>4} {'out':>4}  {'cost':>12}  spent of the budget"


class Story:
    """The five steps (four, where the key is kept), and what was measured on the way."""

    def __init__(
        self, proxy: Proxy, clickhouse_url: str | None, say: Callable[[str], None], *, keeps_key: bool
    ) -> None:
        self.proxy, self.say, self.keeps_key = proxy, say, keeps_key
        self.clickhouse_url = clickhouse_url
        self.calls: list[Call] = []
        self.result: dict[str, Any] = {"first_warning_at_fraction": None, "unpriced": None}

    def tell(self) -> dict[str, Any]:
        """All of it. SystemExit with the reason where it does not go as told."""
        self.make_key()
        try:
            self.spend()
            self.refused()
            self.compare()
            self.raise_budget()
        finally:
            if not self.keeps_key:
                self.delete_key()
        return self.result

    def make_key(self) -> None:
        """Step 1."""
        alias = f"demo-{uuid.uuid4().hex[:8]}"
        body = {"key_alias": alias, "user_id": "ann", "max_budget": float(BUDGET_USD)}
        self.proxy.key = self.proxy.admin("POST", "/key/generate", **body)["key"]
        self.history = History(self.clickhouse_url, self.proxy.key)
        self.say(f"\nStep 1  A key with a budget of {usd(BUDGET_USD)}\n")
        self.say(f"{wrapped(f'POST /key/generate {json.dumps(body)}')}\n  sk-...{self.proxy.key[-4:]}")

    def spend(self) -> None:
        """Step 2: one call after the other, at once, until one is refused."""
        offered = self.proxy.models()
        models, prompts = cycle([m for m in MODELS if m in offered] or offered[:4]), cycle(PROMPTS)
        self.say("\nStep 2  Completions until the budget is spent\n")
        self.say(HEADINGS)
        while len(self.calls) < MAX_CALLS and (not self.calls or self.calls[-1].status == 200):
            unpriced = len(self.calls) + 1 == UNPRICED_CALL and UNPRICED in offered
            call = self.proxy.complete(UNPRICED if unpriced else next(models), next(prompts))
            self.calls.append(call)
            self.say(line(len(self.calls), call))
            if unpriced:
                self.flagged()
            if WARN_AT <= call.spent_usd / BUDGET_USD < 1:
                self.warned()

    def flagged(self) -> None:
        """Wait until history says that a call had no price, and the alert is there."""
        for event in self.history.wait_for(UNPRICED_EVENTS):
            for alert in self.history.wait_for(UNPRICED_ALERTS, model=event["model"])[:1]:
                self.note(f"⚑ recorded as unpriced, not as free: {alert['message'].partition(' (')[0]}")
                self.result["unpriced"] = event

    def warned(self) -> None:
        """Wait for the first warning where it is due; elsewhere nothing waits."""
        if self.result["first_warning_at_fraction"] is None:
            for alert in self.history.wait_for(ALERTS, kind="threshold")[:1]:
                self.result["first_warning_at_fraction"] = round(alert["fraction"], 4)
                self.note(f"⚠ {self.plain(alert['message'])}")

    def refused(self) -> None:
        """The end of step 2."""
        *served, last = self.calls
        if last.error.get("type") != "budget_exceeded":
            raise SystemExit(f"call {len(self.calls)} should have been refused; {last.status}: {last.error}")
        milliseconds = (last.answered_at - served[-1].answered_at) * 1000
        self.note(f"✋ {last.error['message']}")
        self.warned()
        for alert in self.history.wait_for(ALERTS, kind="exceeded")[:1]:
            self.note(f"⚠ {self.plain(alert['message'])}")
        self.say(f"\n  refused {milliseconds:.0f} ms after the answer of the call that spent the rest")
        unshown = ("answered_at", "headers")
        calls = [{k: v for k, v in asdict(call).items() if k not in unshown} for call in self.calls]
        self.result |= {
            "calls_served": len(served),
            "calls_refused": 1,
            "refusal": {"status": last.status, **last.error, "headers": last.headers},
            "refused_after_ms": round(milliseconds, 1),
            "calls": calls,
        }

    def compare(self) -> None:
        """Step 3: three that counted apart from each other, and the key API."""
        served = self.result["calls_served"]
        kept = self.history.wait_for(SPENT, lambda rows: rows and int(rows[0]["events"]) >= served)
        known = int(kept[0]["nanousd"]) if kept else None
        signal = self.history.wait_for(SIGNAL, lambda rows: rows and int(rows[0]["nanousd"]) == known)
        spent = {
            "producer": nano(self.proxy.spent_usd),
            "stream": int(signal[0]["nanousd"]) if signal else None,
            "history": known,
        }
        info = self.proxy.admin("GET", "/key/info", key=self.history.hash)["info"]
        key_info = None if info["spend"] is None else nano(Decimal(str(info["spend"])))
        equal = len(set(spent.values())) == 1 if self.clickhouse_url else None
        self.result |= {"spent_nanousd": spent, "key_info_spend_nanousd": key_info, "equal": equal}
        self.say(f"\nStep 3  What was spent\n\n  {served} served, 1 refused\n")
        for name, amount in {**spent, "key_info": key_info}.items():
            shown = "not asked" if amount is None else f"{amount:>13,} nano-USD"
            self.say(f"  {SPENT_BY[name]:<42}{shown}")
        self.say(f"\n  {VERDICTS[equal]}")
        decision = self.calls[-1].headers["x-spendmeter-decision"]
        for why in self.history.wait_for(DECISION, decision=decision):
            self.result["decision"] = {"id": decision, **why}
            at, limit = Decimal(why["spent_usd"]), Decimal(why["limit_usd"])
            self.say(f"  refused with {usd(at)} known of {usd(limit)}:\n    spendmeter explain {decision}")
        self.result["signal_latency_ms"] = latency = next(iter(self.history.rows(SIGNAL_LATENCY)), None)
        if latency:
            self.say(
                wrapped(
                    "from a request's end to the stream's signal that includes it:"
                    f" p50 {latency['p50']} ms, p99 {latency['p99']} ms"
                )
            )

    def raise_budget(self) -> None:
        """Step 4, timed from the moment the raise was sent."""
        begun = time.perf_counter()
        self.proxy.admin("POST", "/key/update", key=self.history.hash, max_budget=float(RAISED_USD))
        raised = time.perf_counter()
        while (call := self.proxy.complete(self.calls[0].model, PROMPTS[0])).status != 200:
            if time.perf_counter() - begun > WITHIN_SECONDS:
                raise SystemExit(f"still refused {WITHIN_SECONDS:.0f} s after the raise: {call.error}")
        raised_ms, served_ms = (raised - begun) * 1000, (call.answered_at - begun) * 1000
        self.result["readmitted_after_ms"] = round(served_ms, 1)
        self.say(f"\nStep 4  The budget is raised to {usd(RAISED_USD)}\n\n{HEADINGS}")
        self.say(line(len(self.calls) + 1, call, RAISED_USD))
        after = (
            f"served {served_ms:.0f} ms after POST /key/update was sent"
            f" ({raised_ms:.0f} ms until that was answered, the rest is the call itself)"
        )
        self.say(f"\n{wrapped(after)}")

    def delete_key(self) -> None:
        """Step 5: the key opens nothing any more."""
        self.proxy.admin("POST", "/key/delete", keys=[self.history.hash])
        call = self.proxy.complete(MODELS[0], PROMPTS[0])
        message = str(call.error.get("message"))
        self.result["deleted_key"] = {"status": call.status, "message": message}
        shown = wrapped(f"{call.status} {short(self.plain(message), 120)}")
        self.say(f"\nStep 5  The key is deleted\n\n{shown}\n")

    def note(self, text: str) -> None:
        """Say it under the call that it is about."""
        self.say(wrapped(text, 7))

    def plain(self, text: str) -> str:
        """Without the 64 digits of the key's hash."""
        return text.replace(self.history.hash, f"{self.history.hash[:8]}…")


def line(number: int, call: Call, budget: Decimal = BUDGET_USD) -> str:
    """One call in aligned columns."""
    cost = "no price" if call.cost_usd is None else f"${call.cost_usd:.9f}"
    refused = f"refused, {call.status}"
    reply = call.reply if call.status == 200 else refused
    texts = f" {short(call.prompt):<34} {short(reply):<34}" if IS_WIDE else ""
    shown = cost if call.status == 200 else "" if IS_WIDE else refused
    of = f" of {usd(budget)}" if IS_WIDE else ""
    return (
        f"  {number:>3}  {call.model:<20}{texts} {call.tokens_in:>4} {call.tokens_out:>4}  {shown:>12}"
        f"  ${call.spent_usd:.9f}{of} {call.spent_usd / budget:>7.1%}"
    )


def wrapped(text: str, indent: int = 2) -> str:
    """In lines that the terminal need not fold."""
    return textwrap.fill(text, COLUMNS - 1, initial_indent=" " * indent, subsequent_indent=" " * (indent + 2))


def short(text: str, width: int = 33) -> str:
    """One line of at most that many characters."""
    text = " ".join(text.split())
    return text if len(text) <= width else text[: width - 1] + "…"


def usd(amount: Decimal) -> str:
    return f"${amount.normalize():f}"


def nano(amount: Decimal) -> int:
    return int(amount * 1_000_000_000)


def main() -> None:
    """Tell the story. Exit 1, with the reason, where it does not go as told."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--base-url", required=True)
    parser.add_argument("--master-key", default=os.environ.get("LITELLM_MASTER_KEY"))
    parser.add_argument("--clickhouse-url")
    parser.add_argument("--keep-key", action="store_true", help="leave the key and its budget")
    parser.add_argument("--json", action="store_true", help="print the result as JSON, at the end")
    options = parser.parse_args()
    if not options.master_key:
        parser.error("--master-key, or LITELLM_MASTER_KEY in the environment, is needed")
    say: Callable[[str], None] = (lambda _: None) if options.json else (lambda text: print(text, flush=True))
    proxy = Proxy(options.base_url, options.master_key)
    result = Story(proxy, options.clickhouse_url, say, keeps_key=options.keep_key).tell()
    if options.json:
        print(json.dumps(result, indent=2, default=str))
    if result["equal"] is False:
        sys.exit("the proxy, the stream and ClickHouse do not agree")


if __name__ == "__main__":
    main()
