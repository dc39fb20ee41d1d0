"""`spendmeter attach` on a file: what it shows, what it writes, and back."""

from pathlib import Path

import pytest

from .conftest import spendmeter

TEXT = "# ours\nmodel_list: []   # none yet\n\nlitellm_settings:\n  drop_params: true\n  max_budget: 100\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(TEXT)
    path.chmod(0o640)
    return path


def test_a_check_shows_the_difference_and_changes_nothing(config: Path) -> None:
    said = spendmeter("attach", "--check", str(config), exit_code=1)

    assert "+  callbacks: spendmeter_gateway.callback\n" in said
    assert "+  global_disable_no_log_param: true\n" in said
    assert "stays: LiteLLM's own limits are armed in its configuration" in said
    assert "config.yaml:6 (max_budget)" in said
    assert config.read_text() == TEXT
    assert "\x1b" not in said, "colours are for terminals"


def test_what_was_written_can_be_undone(config: Path) -> None:
    said = spendmeter("attach", str(config), "--write")
    assert "was written; what it was is in config.yaml.before-spendmeter" in said
    assert config.read_text() == TEXT.replace(
        "  drop_params",
        "  global_disable_no_log_param: true\n  callbacks: spendmeter_gateway.callback\n  drop_params",
    )
    assert config.stat().st_mode & 0o777 == 0o640

    assert "has all that it needs" in spendmeter("attach", str(config))
    assert "nothing was written" in spendmeter("attach", str(config), "--write")

    assert "is as it was" in spendmeter("attach", str(config), "--undo")
    assert config.read_text() == TEXT
    assert [path.name for path in config.parent.iterdir()] == ["config.yaml"]
    assert "undone" in spendmeter("attach", str(config), "--undo", exit_code=2)


def test_what_somebody_changed_since_is_not_overwritten(config: Path) -> None:
    spendmeter("attach", str(config), "--write")
    changed = config.read_text() + "router_settings: {}\n"
    config.write_text(changed)

    assert "was changed after --write" in spendmeter("attach", str(config), "--undo", exit_code=2)
    assert config.read_text() == changed


def test_what_stands_beside_our_lines_is_shown_without_its_secrets(config: Path) -> None:
    config.write_text(
        "general_settings:\n  master_key: sk-secret-7\n  database_url: os.environ/DATABASE_URL\n"
    )

    said = spendmeter("attach", str(config), exit_code=1)

    assert "   master_key: …\n   database_url: os.environ/DATABASE_URL\n+\n+litellm_settings:" in said
    assert "sk-secret" not in said


def test_a_link_stays_a_link(config: Path) -> None:
    link = config.with_name("linked.yaml")
    link.symlink_to(config)

    spendmeter("attach", str(link), "--write")

    assert link.is_symlink()
    assert "callbacks" in config.read_text()


@pytest.mark.parametrize("text", ["litellm_settings: {}\n", "a: [", "- a\n"])
def test_a_file_that_it_cannot_change_stays_as_it_is(config: Path, text: str) -> None:
    config.write_text(text)

    assert "Error: " in spendmeter("attach", str(config), "--write", exit_code=2)
    assert config.read_text() == text
