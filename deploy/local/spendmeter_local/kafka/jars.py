"""Apache Kafka's jars: which ones are needed, where they are kept, and how missing ones are fetched.

A release's lock file names every jar with its size and SHA-256; `python -m spendmeter_local.kafka.jars`
writes `kafka-jars.lock` again. A jar gets its final name only once its hash is right. So an interrupted
fetch leaves no seemingly complete file, and continues where it stopped.
"""

import errno
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

KAFKA_VERSION = "4.1.0"
LOGGING = ("org.apache.logging.log4j:log4j-core:2.25.2", "org.apache.logging.log4j:log4j-slf4j-impl:2.25.2")

DOWNLOADS_AT_ONCE = 4
TRIES_PER_JAR = 3
REQUEST_TIMEOUT_SECONDS = 30
REPOSITORIES: dict[str, str] | None = None  # name: URL; None is Maven Central


class FetchError(RuntimeError):
    """A jar could not be fetched; the message names it and what was wrong."""


@dataclass(frozen=True, slots=True)
class Jar:
    """One line of the lock file."""

    coordinate: str  # group:artifact:version
    size_bytes: int
    sha256: str

    @property
    def filename(self) -> str:
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


@dataclass(frozen=True, slots=True)
class KafkaRelease:
    """A release of Apache Kafka's broker, and the file that names its jars."""

    version: str
    lock: Path

    @property
    def roots(self) -> tuple[str, ...]:
        """The artifacts from which the lock is resolved."""
        return (f"org.apache.kafka:kafka_2.13:{self.version}", *LOGGING)


LOCAL = KafkaRelease(KAFKA_VERSION, Path(__file__).with_name("kafka-jars.lock"))
"""The release that the local stack runs."""

Report = Callable[[Jar], None]
"""Called with each jar once it has its final name."""


def cache_dir() -> Path:
    """`SPENDMETER_CACHE_DIR`, or `~/.cache/spendmeter`. Raises OSError: there is neither."""
    if named := os.environ.get("SPENDMETER_CACHE_DIR"):
        return Path(named).absolute()
    try:
        return Path.home() / ".cache" / "spendmeter"
    except RuntimeError:
        raise OSError(
            errno.ENOENT, "this user has no home folder; name a folder for Kafka in SPENDMETER_CACHE_DIR"
        ) from None


def jars_dir(release: KafkaRelease = LOCAL) -> Path:
    """The directory of this version's jars."""
    return cache_dir() / f"kafka-{release.version}"


def locked_jars(release: KafkaRelease = LOCAL) -> tuple[Jar, ...]:
    """Every jar that the broker needs."""
    lines = (line.split() for line in release.lock.read_text().splitlines() if not line.startswith("#"))
    return tuple(Jar(coordinate, int(size), sha256) for coordinate, size, sha256 in lines)


def missing_jars(release: KafkaRelease = LOCAL) -> tuple[Jar, ...]:
    """The jars not in the cache yet. Cheap: it checks sizes only, because a final name means a right hash."""
    return tuple(jar for jar in locked_jars(release) if not _is_present(jar, jars_dir(release)))


def classpath(release: KafkaRelease = LOCAL) -> str:
    """Java's class path for the broker, in a stable order."""
    return os.pathsep.join(str(jars_dir(release) / jar.filename) for jar in locked_jars(release))


def fetch_jars(report: Report = lambda jar: None, release: KafkaRelease = LOCAL) -> None:
    """Fetch what `missing_jars` names. Safe to interrupt and to run twice at once: the second run waits.

    Raises FetchError after `TRIES_PER_JAR` tries at any jar.
    """
    if not missing_jars(release):
        return
    folder = jars_dir(release)
    with (
        _only_one_fetch(folder),
        tempfile.TemporaryDirectory(dir=cache_dir(), prefix=".fetch-") as staging,
        ThreadPoolExecutor(DOWNLOADS_AT_ONCE, "fetch") as pool,
    ):
        running = {pool.submit(_fetch, jar, Path(staging), folder): jar for jar in missing_jars(release)}
        try:
            for done in as_completed(running):
                done.result()
                report(running[done])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _is_present(jar: Jar, folder: Path) -> bool:
    try:
        return (folder / jar.filename).stat().st_size == jar.size_bytes
    except FileNotFoundError:
        return False


@contextmanager
def _only_one_fetch(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fetch(jar: Jar, staging: Path, folder: Path) -> None:
    problem: Exception | None = None
    for attempt in range(TRIES_PER_JAR):
        try:
            fetched = _download(jar, staging / f"{jar.filename}.{attempt}")
            break
        # jgo passes on the errors of requests, and raises RuntimeError for an artifact that it cannot find.
        except (OSError, RuntimeError) as error:
            problem = error
    else:
        raise FetchError(f"{jar.coordinate}: {problem} (tried {TRIES_PER_JAR} times)") from problem
    fetched.replace(folder / jar.filename)


def _download(jar: Jar, repository: Path) -> Path:
    artifact = _maven(repository).create_dependency(jar.coordinate).artifact
    fetched = Path(artifact.resolve())
    found = hashlib.sha256(fetched.read_bytes()).hexdigest()
    if found != jar.sha256:
        shutil.rmtree(repository)
        raise FetchError(f"SHA-256 is {found}, expected {jar.sha256}")
    return fetched


def _maven(repository: Path) -> Any:
    # Imported here: only a fetch needs it, and the import costs a third of a second.
    from jgo.maven import MavenContext, PythonResolver

    return MavenContext(
        resolver=PythonResolver(),
        repo_cache=repository,
        local_repos=[],
        remote_repos=REPOSITORIES,
        timeout=REQUEST_TIMEOUT_SECONDS,
    )


def write_lock(release: KafkaRelease) -> None:
    """Resolve the release's jars from Maven Central and write its lock file."""
    with tempfile.TemporaryDirectory() as staging:
        maven = _maven(Path(staging))
        roots = [maven.create_dependency(coordinate) for coordinate in release.roots]
        for root in roots:
            # Otherwise jgo also treats each root as a bill of materials. log4j's names its own kafka-clients,
            # and would put the clients of 3.9.1 under the broker of 4.1.0. That starts, but nobody tested it.
            root.raw = True
        found, transitive = maven.resolver.resolve(roots)
        lines = []
        for dependency in (*found, *transitive):
            content = Path(dependency.artifact.resolve()).read_bytes()
            coordinate = f"{dependency.groupId}:{dependency.artifactId}:{dependency.version}"
            lines.append(f"{coordinate} {len(content)} {hashlib.sha256(content).hexdigest()}")
    release.lock.write_text("\n".join(["# group:artifact:version size-in-bytes sha256", *sorted(lines), ""]))


if __name__ == "__main__":
    write_lock(LOCAL)
    sys.stdout.write(f"{LOCAL.lock.name}: {len(locked_jars())} jars\n")
