"""One name for each model, and how budgets select by it."""

import litellm
import pytest

from spendmeter.domain.matching import BudgetBook, Subject, definition_digest, subject_of
from spendmeter.values.models import canonical_model, names_of_model, selected_model
from tests.builders import budget, usage


@pytest.mark.parametrize(
    ("model", "provider", "name"),
    [
        ("gpt-4o", "openai", "gpt-4o"),
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("openai/responses/gpt-4o", "openai", "gpt-4o"),
        ("text-completion-openai/gpt-3.5-turbo-instruct", "text-completion-openai", "gpt-3.5-turbo-instruct"),
        ("azure/my-deployment", "azure", "my-deployment"),
        ("azure/o_series/my-deployment", "azure", "my-deployment"),
        ("azure/responses/gpt5_series/mine", "azure", "mine"),
        ("azure/eu/gpt-4o", "azure", "eu/gpt-4o"),
        ("bedrock/anthropic.claude-v2", "bedrock", "anthropic.claude-v2"),
        ("bedrock/converse/anthropic.claude-v2", "bedrock", "anthropic.claude-v2"),
        ("bedrock/invoke/us.anthropic.claude-v2", "bedrock", "us.anthropic.claude-v2"),
        ("bedrock/us-gov-west-1/anthropic.claude-v2", "bedrock", "anthropic.claude-v2"),
        ("converse/anthropic.claude-v2", "bedrock", "anthropic.claude-v2"),
        ("vertex_ai/gemini-2.0-flash", "vertex_ai", "gemini-2.0-flash"),
        ("vertex_ai/meta/llama-3.1-405b", "vertex_ai", "meta/llama-3.1-405b"),
        ("vertex_ai_beta/gemini-2.0-flash", "vertex_ai", "gemini-2.0-flash"),
        ("gemini/gemini-2.0-flash", "gemini", "gemini-2.0-flash"),
        ("openrouter/openai/gpt-4o", "openrouter", "openai/gpt-4o"),
        ("openai/gpt-4o", "openrouter", "openai/gpt-4o"),
        ("cohere/command-r", "cohere_chat", "command-r"),
        ("anthropic/claude-2", "anthropic_text", "claude-2"),
        ("meta-llama/Llama-3.3-70B-Instruct", "huggingface", "meta-llama/Llama-3.3-70B-Instruct"),
        ("meta-llama/Llama-3.3-70B-Instruct", "hosted_vllm", "meta-llama/Llama-3.3-70B-Instruct"),
        ("openai/meta-llama/Llama-3.3-70B-Instruct", "openai", "meta-llama/Llama-3.3-70B-Instruct"),
        ("together_ai/deepseek-ai/DeepSeek-R1", "together_ai", "deepseek-ai/DeepSeek-R1"),
        ("openai/gpt-4o", "", "openai/gpt-4o"),
        ("openai/", "openai", "openai/"),
        ("", "openai", ""),
    ],
)
def test_each_model_has_one_name(model: str, provider: str, name: str) -> None:
    assert canonical_model(model, provider) == name


@pytest.mark.parametrize("provider", [str(getattr(p, "value", p)) for p in litellm.provider_list])
def test_as_configured_and_as_passed_through_are_one(provider: str) -> None:
    """By LiteLLM's own reading of a configured name, whatever the provider."""
    assert canonical_model(f"{provider}/a-model", provider) == "a-model"
    assert canonical_model(f"{provider}/owner/a-model", provider) == "owner/a-model"


def matches(wanted: str, model: str, provider: str) -> bool:
    book = BudgetBook([budget(match={"model": wanted})])
    return bool(book.accounts_of(Subject(model=model, provider=provider)))


@pytest.mark.parametrize(
    ("wanted", "model", "provider", "is_selected"),
    [
        ("gpt-4o", "gpt-4o", "openai", True),
        ("gpt-4o", "openai/gpt-4o", "openai", True),
        ("openai/gpt-4o", "gpt-4o", "openai", True),
        ("openai/gpt-4o", "openai/gpt-4o", "openai", True),
        ("openai/responses/gpt-4o", "gpt-4o", "openai", True),
        ("azure/gpt-4o", "gpt-4o", "openai", False),
        ("gpt-4o", "azure/gpt-4o", "azure", True),
        ("openrouter/openai/gpt-4o", "openai/gpt-4o", "openrouter", True),
        ("openrouter/openai/gpt-4o", "gpt-4o", "openai", False),
        ("bedrock/converse/anthropic.claude-v2", "anthropic.claude-v2", "bedrock", True),
        ("cohere/command-r", "command-r", "cohere_chat", True),
        ("openai/*", "gpt-4o", "openai", True),
        ("openai/*", "gpt-4o", "azure", False),
        ("gpt-4*", "openai/gpt-4o", "openai", True),
        ("*4o", "openai/gpt-4o", "openai", True),
        ("bedrock/converse/anthropic.*", "anthropic.claude-v2", "bedrock", True),
        ("meta-llama/*", "meta-llama/Llama-3.3-70B-Instruct", "huggingface", True),
        ("openai/gpt-4o", "openai/gpt-4o", "", True),
    ],
)
def test_a_budget_may_name_a_model_either_way(
    wanted: str, model: str, provider: str, is_selected: bool
) -> None:
    assert matches(wanted, model, provider) is is_selected


def test_a_model_has_one_account_and_a_glob_counts_it_once() -> None:
    book = BudgetBook([budget(id="each", match={"model": "*"}), budget(id="glob", match={"model": "*4o"})])
    for model in ("gpt-4o", "openai/gpt-4o"):
        names = [a.name for a in book.accounts_in(usage(model=model, provider="openai"))]
        assert sorted(names) == ["each|model=gpt-4o", "glob|model=%2A4o"]


def test_an_event_of_an_earlier_version_has_the_subject_of_a_later_one() -> None:
    old, new = (usage(model=model, provider="openai") for model in ("openai/gpt-4o", "gpt-4o"))
    assert subject_of(old) == subject_of(new)


def test_only_budgets_that_a_model_decides_have_another_shape_than_before() -> None:
    """The digests are those of the version before models had one name."""
    assert definition_digest(budget(match={"key": "*"})) == "98cd78ed"
    assert definition_digest(budget(match={"model": "*"})) != "a36e2125"
    assert definition_digest(budget(match={"key": "*"}), [budget(match={"model": "m"})]) != definition_digest(
        budget(match={"key": "*"}), [budget(match={"model_group": "m"})]
    )


def test_the_names_of_a_model_begin_with_its_one_name() -> None:
    assert names_of_model("cohere/command-r", "cohere_chat") == (
        "command-r",
        "cohere_chat/command-r",
        "cohere/command-r",
    )
    assert selected_model("gpt-4o") == "gpt-4o"
