"""Laws of the names of models."""

from hypothesis import given
from hypothesis import strategies as st

from spendmeter.contract.budget import Budget
from spendmeter.domain.matching import BudgetBook, Subject
from spendmeter.values.models import canonical_model, names_of_model, prefixes_of, selected_model
from tests.builders import budget

providers = st.sampled_from(
    ["openai", "azure", "bedrock", "vertex_ai", "cohere_chat", "openrouter", "huggingface", "meta", ""]
)
PROVIDERS = "openai azure bedrock vertex_ai cohere openrouter huggingface meta-llama meta"
parts = st.sampled_from(
    [
        *PROVIDERS.split(),
        *["converse", "invoke", "responses", "o_series", "us-west-2", "gpt-4o", "*", "a"],
        "",
    ]
)
models = st.lists(parts, min_size=1, max_size=5).map("/".join) | st.text(max_size=12)


@given(models, providers)
def test_the_name_of_a_name_is_itself(model: str, provider: str) -> None:
    name = canonical_model(model, provider)

    assert canonical_model(name, provider) == name


@given(models, providers)
def test_nothing_but_whole_parts_in_front_is_taken_off_and_something_stays(model: str, provider: str) -> None:
    name = canonical_model(model, provider)

    assert model == name or model.endswith("/" + name)
    assert bool(name) is bool(model)


@given(models, providers)
def test_a_prefix_of_the_provider_changes_no_name(model: str, provider: str) -> None:
    if provider and model:
        names = {canonical_model(f"{prefix}/{model}", provider) for prefix in prefixes_of(provider)}

        assert names == {canonical_model(model, provider)}


@given(models, providers.filter(bool))
def test_each_name_of_a_model_selects_it_and_so_does_what_a_configuration_says(
    model: str, provider: str
) -> None:
    def matches(wanted: str) -> bool:
        chosen: Budget = budget(match={"model": wanted})
        return len(BudgetBook([chosen]).accounts_of(Subject(model=model, provider=provider))) == 1

    if model and "*" not in model:
        # A name that reads like another provider's with a route in it selects that one.
        names = {name for name in names_of_model(model, provider) if selected_model(name) == name}

        assert [one for one in (*names, f"{provider}/{model}") if not matches(one)] == []


@given(models)
def test_what_a_budget_selects_by_is_settled_at_once(wanted: str) -> None:
    assert selected_model(selected_model(wanted)) == selected_model(wanted)
