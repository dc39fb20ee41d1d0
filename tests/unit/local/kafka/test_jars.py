"""The cache of jars: recognised at once when complete, never believed complete when it is not.

jgo's own resolver downloads here, from a Maven repository on loopback.
"""

import gc
import hashlib
import http.server
import threading
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spendmeter_local.kafka import jars as kafka_jars
from spendmeter_local.kafka.jars import FetchError, Jar, fetch_jars, jars_dir, locked_jars, missing_jars
from spendmeter_local.ports import LOOPBACK

CONTENTS = {"first": b"the first jar" * 1000, "second": b"the second"}
JARS = tuple(
    Jar(f"org.example:{name}:1.0", len(content), hashlib.sha256(content).hexdigest())
    for name, content in CONTENTS.items()
)


# jgo leaves the connection of a 404 to the collector, which may come during a test or after it.
pytestmark = pytest.mark.filterwarnings("ignore:.*socket:pytest.PytestUnraisableExceptionWarning")


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A Maven repository with both jars, and an empty cache to fetch into."""
    root = tmp_path / "repository"
    for name, content in CONTENTS.items():
        folder = root / "org" / "example" / name / "1.0"
        folder.mkdir(parents=True)
        (folder / f"{name}-1.0.jar").write_bytes(content)
    server = http.server.ThreadingHTTPServer((LOOPBACK, 0), partial(_Quiet, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("SPENDMETER_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(kafka_jars, "locked_jars", lambda release: JARS)
    url = f"http://{LOOPBACK}:{server.server_address[1]}"
    monkeypatch.setattr(kafka_jars, "REPOSITORIES", {"loopback": url})
    yield root
    server.shutdown()
    server.server_close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def test_what_is_missing_is_fetched_and_reported(repository: Path) -> None:
    fetched: list[Jar] = []
    fetch_jars(fetched.append)
    assert sorted(fetched, key=str) == sorted(JARS, key=str)
    assert missing_jars() == ()
    assert (jars_dir() / "first-1.0.jar").read_bytes() == CONTENTS["first"]


def test_a_complete_cache_asks_nobody(repository: Path) -> None:
    fetch_jars()
    for jar in repository.rglob("*.jar"):
        jar.unlink()
    fetch_jars(lambda jar: pytest.fail(f"{jar} was fetched again"))


def test_a_jar_cut_short_is_missing_and_fetched_again(repository: Path) -> None:
    fetch_jars()
    cut = jars_dir() / "first-1.0.jar"
    cut.write_bytes(CONTENTS["first"][:-1])
    assert missing_jars() == (JARS[0],)
    fetch_jars()
    assert cut.read_bytes() == CONTENTS["first"]


def test_a_jar_that_is_not_what_was_locked_is_refused(repository: Path) -> None:
    spoiled = repository / "org/example/second/1.0/second-1.0.jar"
    spoiled.write_bytes(CONTENTS["second"].upper())
    with pytest.raises(FetchError, match=r"org\.example:second:1\.0: SHA-256 is "):
        fetch_jars()
    assert JARS[1] in missing_jars()
    assert not (jars_dir() / "second-1.0.jar").exists()


def test_a_failed_fetch_keeps_what_it_had_and_goes_on_from_there(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_jars, "DOWNLOADS_AT_ONCE", 1)
    absent = repository / "org/example/second/1.0/second-1.0.jar"
    content = absent.read_bytes()
    absent.unlink()
    with pytest.raises(FetchError, match="tried 3 times"):
        fetch_jars()
    assert missing_jars() == (JARS[1],)
    absent.write_bytes(content)
    fetched: list[Jar] = []
    fetch_jars(fetched.append)
    assert fetched == [JARS[1]]
    assert [path.name for path in kafka_jars.cache_dir().iterdir() if path.name.startswith(".fetch")] == []


def test_the_clients_are_of_the_brokers_own_version() -> None:
    kafka = [jar for jar in locked_jars() if jar.coordinate.startswith("org.apache.kafka:")]
    assert len(kafka) > 10
    assert {jar.coordinate.rsplit(":", 1)[1] for jar in kafka} == {kafka_jars.KAFKA_VERSION}
