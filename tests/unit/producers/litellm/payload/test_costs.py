"""The prices that an event names are those that LiteLLM's list has for what it billed."""

import json
import re
from importlib.resources import files

from spendmeter_gateway.litellm.payload.prices import PRICE_NAMES

LIST = "model_prices_and_context_window_backup.json"
# Batches, flex and the like bill no request that is recorded by them.
BILLED = re.compile(
    r"(input_cost_per_token|output_cost_per_token|cache_(read|creation)_input_token_cost)"
    r"(_above_1hr)?(_above_\d+k_tokens)?"
)


def test_each_tier_of_litellms_list_has_a_name() -> None:
    listed = json.loads(files("litellm").joinpath(LIST).read_text(encoding="utf-8"))
    names = {name for prices in listed.values() for name in prices if BILLED.fullmatch(name)}

    assert "input_cost_per_token_above_100k_tokens" in names
    assert names <= PRICE_NAMES.keys()
    assert len(set(PRICE_NAMES.values())) == len(PRICE_NAMES)
