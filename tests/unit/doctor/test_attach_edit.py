"""`spendmeter attach` adds its lines to any way of writing a configuration, and changes nothing else."""

import difflib
from pathlib import Path

import pytest

from spendmeter_doctor.attach.edit import NotEditable, attached
from spendmeter_doctor.litellm_config import CALLBACK, InvalidConfig, parse_config

PATH = Path("config.yaml")
OURS = f"  callbacks: {CALLBACK}\n"
NO_LOG = "  global_disable_no_log_param: true\n"


def edited(text: str) -> str:
    return attached(parse_config(text, PATH))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", f"litellm_settings:\n{NO_LOG}{OURS}"),
        ("model_list: []\n", f"model_list: []\n\nlitellm_settings:\n{NO_LOG}{OURS}"),
        ("model_list: []", f"model_list: []\n\nlitellm_settings:\n{NO_LOG}{OURS}"),
        ("litellm_settings:\n", f"litellm_settings:\n{NO_LOG}{OURS}"),
        ("litellm_settings: null # later\na: 1\n", f"litellm_settings: # later\n{NO_LOG}{OURS}a: 1\n"),
        (
            "litellm_settings:\n    # quiet\n    set_verbose: false   # for now\n",
            f"litellm_settings:\n    # quiet\n  {NO_LOG}  {OURS}    set_verbose: false   # for now\n",
        ),
        (
            "litellm_settings:\n  callbacks: prometheus  # ours\n",
            f"litellm_settings:\n{NO_LOG}  callbacks: [prometheus, {CALLBACK}]  # ours\n",
        ),
        (
            'litellm_settings:\n  callbacks: ["prometheus", "otel"]\n',
            f'litellm_settings:\n{NO_LOG}  callbacks: ["prometheus", "otel", {CALLBACK}]\n',
        ),
        (
            "litellm_settings:\n  callbacks:\n  - prometheus   # first\n  - otel\n  b: 1\n",
            f"litellm_settings:\n{NO_LOG}  callbacks:\n  - prometheus   # first\n  - otel\n  - {CALLBACK}\n"
            "  b: 1\n",
        ),
        ("litellm_settings:\n  callbacks: []\n", f"litellm_settings:\n{NO_LOG}  callbacks: [{CALLBACK}]\n"),
        (
            "litellm_settings:\n  global_disable_no_log_param: false # why\n  callbacks:\n",
            f"litellm_settings:\n  global_disable_no_log_param: true # why\n{OURS}",
        ),
        (
            "litellm_settings:\n  callbacks: producers.litellm_callback.spendmeter\n",
            f"litellm_settings:\n{NO_LOG}{OURS}",
        ),
        ("a: 1\r\nlitellm_settings:\r\n  b: 2\r\n", None),
    ],
)
def test_only_what_is_needed_is_added(before: str, after: str | None) -> None:
    text = edited(before)

    if after is not None:
        assert text == after
    assert edited(text) == text, "the second time nothing is left to do"
    kept = [
        line for line in before.splitlines(keepends=True) if "callbacks" not in line and "_log_" not in line
    ]
    lines = text.splitlines(keepends=True)
    assert [one for one in kept if "null" not in one and one.endswith("\n") and one not in lines] == []


def test_comments_order_and_blank_lines_stay() -> None:
    before = (Path(__file__).parents[3] / "deploy/litellm/config.yaml").read_text(encoding="utf-8")
    without = before.replace(OURS, "").replace(NO_LOG, "  drop_params: true  # kept\n")

    changed = list(difflib.ndiff(without.splitlines(), edited(without).splitlines()))

    assert [line for line in changed if line[0] in "-+"] == [f"+ {NO_LOG[:-1]}", f"+ {OURS[:-1]}"]


def test_what_is_whole_stays_as_it_is() -> None:
    text = (Path(__file__).parents[3] / "deploy/litellm/config.yaml").read_text(encoding="utf-8")

    assert edited(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "litellm_settings: {}\n",
        "litellm_settings: {callbacks: prometheus}\n",
        "{litellm_settings: {a: 1}}\n",
        "litellm_settings:\n  callbacks: [a,\n    b]\n",
        "litellm_settings: [1]\n",
        "x: &x\n  a: 1\nlitellm_settings: *x\n",
    ],
)
def test_a_text_that_it_cannot_change_is_refused_with_the_lines_to_write(text: str) -> None:
    with pytest.raises(NotEditable, match="litellm_settings"):
        edited(text)


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "text", "a: \x00"])
def test_what_is_no_configuration_is_refused(text: str) -> None:
    with pytest.raises(InvalidConfig, match=r"config\.yaml"):
        parse_config(text, PATH)


def test_aliases_of_aliases_end() -> None:
    text = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))

    assert parse_config(text, PATH).where("a11") == "config.yaml:12"


def test_merges_of_merges_are_refused_before_they_are_written_out() -> None:
    text = "a0: &a0 {k: v}\n" + "".join(
        f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: v}}\n" for n in range(1, 30)
    )

    with pytest.raises(InvalidConfig, match="merges"):
        parse_config(text, PATH)
    assert parse_config("a: &a {k: v}\nb: {<<: *a, c: 1}\n", PATH).values["b"] == {"k": "v", "c": 1}
