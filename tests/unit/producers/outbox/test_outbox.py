"""The outbox: what was appended is there, whatever happened to the process, the disk or the file."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client import REGISTRY

from spendmeter.contract.money import NanoUsd
from spendmeter.contract.records import decode
from spendmeter.contract.usage import CostSource, UsageEvent
from spendmeter_gateway.outbox.frames import HEADER_BYTES
from spendmeter_gateway.outbox.reader import CheckpointFile, OutboxReader
from spendmeter_gateway.outbox.writer import Outbox, OutboxFull, OutboxUnwritable

NOW = datetime(2026, 11, 22, 13, tzinfo=UTC)
MANY = 10_000
MEGABYTE = 1024**2


def event(producer_id: str, seq: int, end_user: str = "") -> UsageEvent:
    return UsageEvent(
        event_id=UUID(int=seq),
        producer_id=producer_id,
        seq=seq,
        occurred_at=NOW,
        started_at=NOW,
        cost_nanousd=NanoUsd(seq),
        cost_source=CostSource.LITELLM,
    ).model_copy(update={"end_user": end_user})


def append(outbox: Outbox, count: int = 1, end_user: str = "") -> None:
    for _ in range(count):
        outbox.append(lambda seq: event(outbox.producer_id, seq, end_user))


def seqs(unsent: OutboxReader) -> list[int]:
    return [frame.seq for frame in unsent.read(MANY)]


def finish(unsent: OutboxReader) -> list[int]:
    """Everything that is left, acknowledged piece by piece."""
    all_seqs = []
    while piece := seqs(unsent):
        all_seqs += piece
        unsent.acknowledge(piece[-1])
    return all_seqs


def segments(root: Path) -> list[Path]:
    return sorted(root.glob("*/*.segment"))


def metric(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


def abandon(outbox: Outbox) -> None:
    """Let go of the outbox as the kernel does for a process that was killed."""
    outbox._end_segment()
    outbox.unsent.close()
    outbox._lock.release()


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox.open(tmp_path, max_bytes=MEGABYTE)
    yield opened
    opened.close()


class TestAppending:
    """Appending, and reading back what was appended."""

    def test_an_event_takes_the_next_seq_and_is_read_back_as_it_was(self, outbox: Outbox) -> None:
        first = outbox.append(lambda seq: event(outbox.producer_id, seq))
        second = outbox.append(lambda seq: event(outbox.producer_id, seq))

        read = [decode(UsageEvent, frame.payload) for frame in outbox.unsent.read(MANY)]

        assert [first.seq, second.seq] == [1, 2]
        assert read == [first, second]

    def test_events_are_read_again_until_they_are_acknowledged(self, outbox: Outbox) -> None:
        append(outbox, 3)

        assert seqs(outbox.unsent) == [1, 2, 3]
        assert seqs(outbox.unsent) == [1, 2, 3]
        outbox.unsent.acknowledge(2)
        assert seqs(outbox.unsent) == [3]
        outbox.unsent.acknowledge(3)
        assert seqs(outbox.unsent) == []

    def test_a_read_takes_no_more_events_than_asked_for(self, outbox: Outbox) -> None:
        append(outbox, 3)

        assert len(outbox.unsent.read(2)) == 2

    def test_order_holds_across_segments_and_acknowledged_segments_are_deleted(
        self, outbox: Outbox, tmp_path: Path
    ) -> None:
        append(outbox, 700, end_user="x" * 300)
        assert len(segments(tmp_path)) > 2

        assert finish(outbox.unsent) == list(range(1, 701))
        assert len(segments(tmp_path)) == 1

    def test_every_appended_event_is_one_write(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        append(outbox)
        written: list[int] = []
        write = os.write

        def counted(fd: int, data: bytes) -> int:
            written.append(len(data))
            return write(fd, data)

        monkeypatch.setattr(os, "write", counted)

        append(outbox)

        assert len(written) == 1

    def test_with_fsync_an_event_is_on_the_disk_before_append_returns(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[int] = []
        monkeypatch.setattr(os, "fdatasync", synced.append)
        outbox = Outbox.open(tmp_path, max_bytes=MEGABYTE, fsync=True)

        append(outbox, 2)

        assert len(synced) == 2
        abandon(outbox)

    def test_an_event_that_cannot_be_flushed_is_recorded_and_costs_no_later_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outbox = Outbox.open(tmp_path, max_bytes=MEGABYTE, fsync=True)
        flush = os.fdatasync

        def refused(fd: int) -> None:
            raise OSError(errno.EIO, "the disk is gone")

        monkeypatch.setattr(os, "fdatasync", refused)
        append(outbox)
        monkeypatch.setattr(os, "fdatasync", flush)
        append(outbox, 2)

        assert finish(outbox.unsent) == [1, 2, 3]
        abandon(outbox)

    def test_what_waits_is_measured_and_nothing_waits_once_it_is_acknowledged(self, outbox: Outbox) -> None:
        append(outbox, 2)
        assert metric("spendmeter_outbox_bytes") > 2 * HEADER_BYTES

        finish(outbox.unsent)

        assert metric("spendmeter_outbox_bytes") == 0


class TestBound:
    """What happens when Kafka stays away."""

    def test_at_the_bound_the_oldest_are_kept_and_the_new_one_is_lost_and_counted(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        lost = metric("spendmeter_outbox_lost_total", reason="full")
        kept = fill(outbox)

        with pytest.raises(OutboxFull):
            append(outbox)

        assert metric("spendmeter_outbox_lost_total", reason="full") == lost + 2
        assert caplog.text.count("LOST") == 1, "said once, not for each"
        assert finish(outbox.unsent) == list(range(1, kept + 1))

    def test_a_lost_event_leaves_a_gap_in_seq_that_names_it(self, outbox: Outbox) -> None:
        kept = fill(outbox)
        finish(outbox.unsent)

        append(outbox)

        assert seqs(outbox.unsent) == [kept + 2]

    def test_the_size_never_passes_the_bound(self, outbox: Outbox, tmp_path: Path) -> None:
        fill(outbox)

        assert sum(path.stat().st_size for path in segments(tmp_path)) <= MEGABYTE

    def test_a_warning_comes_before_the_bound_once_at_each_level(
        self, outbox: Outbox, caplog: pytest.LogCaptureFixture
    ) -> None:
        fill(outbox)

        warned = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert [text.split(" is ")[1][:4] for text in warned] == ["50 %", "80 %"]
        assert metric("spendmeter_outbox_fill_ratio") > 0.9

    def test_what_predecessors_left_counts_towards_the_bound(self, tmp_path: Path) -> None:
        dead = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        fill(dead)
        abandon(dead)

        taken = Outbox.predecessors(tmp_path)
        successor = Outbox.open(tmp_path, max_bytes=MEGABYTE, predecessors=taken)
        with pytest.raises(OutboxFull):
            append(successor, 2, end_user="x" * 500)
        finish(taken[0].unsent)
        append(successor)

        taken[0].release()
        abandon(successor)


class TestRefusedByTheFileSystem:
    """A full or broken disk: the event is lost loudly, and nothing before or after it suffers."""

    def test_a_full_disk_loses_the_event_and_counts_it(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append(outbox)
        lost = metric("spendmeter_outbox_lost_total", reason="unwritable")
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", refuse(errno.ENOSPC))
            with pytest.raises(OutboxUnwritable):
                append(outbox)
        append(outbox)

        assert metric("spendmeter_outbox_lost_total", reason="unwritable") == lost + 1
        assert finish(outbox.unsent) == [1, 3]

    def test_half_a_frame_is_followed_by_none(self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
        append(outbox)
        write = os.write
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
            with pytest.raises(OutboxUnwritable):
                append(outbox)
        append(outbox)

        assert finish(outbox.unsent) == [1, 3]

    def test_what_a_killed_process_was_sending_is_read_again_as_a_whole(self, tmp_path: Path) -> None:
        killed = Outbox.open(tmp_path, max_bytes=64 * MEGABYTE)
        append(killed, 1_500, end_user="x" * 300)
        first = [frame.seq for frame in killed.unsent.read(100)]
        killed.unsent.acknowledge(first[-1])
        in_doubt = [frame.seq for frame in killed.unsent.read(MANY)]
        abandon(killed)

        (left,) = Outbox.predecessors(tmp_path)

        assert [frame.seq for frame in left.unsent.read(MANY)] == in_doubt
        left.release()

    def test_a_successor_finds_every_event_around_half_a_frame(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        outbox = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        append(outbox)
        write = os.write
        with monkeypatch.context() as broken:
            broken.setattr(os, "write", lambda fd, data: write(fd, data[: len(data) // 2]))
            with pytest.raises(OutboxUnwritable):
                append(outbox)
        append(outbox)
        abandon(outbox)

        (left,) = Outbox.predecessors(tmp_path)

        assert finish(left.unsent) == [1, 3]
        left.release()

    def test_no_new_segment_is_a_loss_and_no_error(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as broken:
            broken.setattr(os, "open", refuse(errno.EMFILE))
            with pytest.raises(OutboxUnwritable):
                append(outbox)
        append(outbox)

        assert finish(outbox.unsent) == [2]

    def test_a_place_that_cannot_be_written_is_said_at_the_start(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")

        with pytest.raises(OutboxUnwritable):
            Outbox.open(tmp_path / "file", max_bytes=MEGABYTE)

    def test_an_outbox_that_cannot_be_opened_leaves_nothing_behind(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(CheckpointFile, "__init__", refuse(errno.ENOSPC))

        with pytest.raises(OutboxUnwritable):
            Outbox.open(tmp_path, max_bytes=MEGABYTE)

        assert list(tmp_path.iterdir()) == []

    def test_a_predecessor_that_cannot_be_opened_stays_and_is_in_nobodys_way(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        dead = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        append(dead)
        abandon(dead)
        with monkeypatch.context() as broken:
            broken.setattr(CheckpointFile, "__init__", refuse(errno.EIO))
            assert Outbox.predecessors(tmp_path) == []

        (left,) = Outbox.predecessors(tmp_path)

        assert seqs(left.unsent) == [1]
        left.release()

    def test_a_predecessor_that_is_dropped_can_be_taken_again(self, tmp_path: Path) -> None:
        dead = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        append(dead)
        abandon(dead)
        Outbox.predecessors(tmp_path).clear()

        (left,) = Outbox.predecessors(tmp_path)

        assert seqs(left.unsent) == [1]
        left.release()

    def test_a_position_that_cannot_be_kept_stops_nothing(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        append(outbox, 2)
        seqs(outbox.unsent)
        monkeypatch.setattr(os, "pwrite", refuse(errno.EIO))

        outbox.unsent.acknowledge(1)

        assert seqs(outbox.unsent) == [2]

    def test_an_event_too_large_for_a_record_is_lost_and_not_in_the_way(self, outbox: Outbox) -> None:
        with pytest.raises(OutboxUnwritable):
            append(outbox, end_user="x" * MEGABYTE)
        append(outbox)

        assert finish(outbox.unsent) == [2]

    def test_a_forked_child_does_not_write_into_its_parents_outbox(
        self, outbox: Outbox, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "getpid", lambda: -1)

        with pytest.raises(OutboxUnwritable):
            append(outbox)

    def test_after_the_end_an_event_is_lost_loudly(self, tmp_path: Path) -> None:
        outbox = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        outbox.close()

        with pytest.raises(OutboxUnwritable):
            append(outbox)


class TestOwnership:
    """Who may finish an outbox, and when."""

    def test_a_live_outbox_is_never_taken_over(self, outbox: Outbox, tmp_path: Path) -> None:
        append(outbox)

        assert Outbox.predecessors(tmp_path) == []

    def test_two_outboxes_of_one_host_are_apart(self, tmp_path: Path) -> None:
        one, other = (Outbox.open(tmp_path, max_bytes=MEGABYTE) for _ in range(2))
        append(one, 2)
        append(other, 1)

        assert one.producer_id != other.producer_id
        assert (seqs(one.unsent), seqs(other.unsent)) == ([1, 2], [1])
        abandon(one)
        abandon(other)

    def test_the_outbox_of_a_dead_process_is_taken_over_by_one(self, tmp_path: Path) -> None:
        dead = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        append(dead, 3)
        seqs(dead.unsent)
        dead.unsent.acknowledge(1)
        abandon(dead)

        (left,) = Outbox.predecessors(tmp_path)

        assert Outbox.predecessors(tmp_path) == [], "taken"
        assert left.unsent.producer_id == dead.producer_id
        assert seqs(left.unsent) == [2, 3]
        left.release()

    def test_a_finished_outbox_leaves_no_trace(self, tmp_path: Path) -> None:
        dead = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        append(dead)
        abandon(dead)

        (left,) = Outbox.predecessors(tmp_path)
        finish(left.unsent)
        left.remove()

        assert list(tmp_path.iterdir()) == []

    def test_an_outbox_closed_with_nothing_unsent_leaves_no_trace(self, tmp_path: Path) -> None:
        outbox = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        append(outbox)
        finish(outbox.unsent)
        outbox.close()

        assert list(tmp_path.iterdir()) == []

    def test_an_outbox_closed_with_events_unsent_is_left_to_the_next(self, tmp_path: Path) -> None:
        outbox = Outbox.open(tmp_path, max_bytes=MEGABYTE)
        append(outbox)
        outbox.close()

        (left,) = Outbox.predecessors(tmp_path)

        assert seqs(left.unsent) == [1]
        left.release()

    def test_the_oldest_predecessor_comes_first(self, tmp_path: Path) -> None:
        dead = [Outbox.open(tmp_path, max_bytes=MEGABYTE) for _ in range(3)]
        for one in dead:
            append(one)
            abandon(one)

        left = Outbox.predecessors(tmp_path)

        assert [one.unsent.producer_id for one in left] == sorted(one.producer_id for one in dead)
        for taken in left:
            taken.release()

    def test_what_was_sent_before_a_death_is_in_doubt_and_what_was_not_is_not(self, tmp_path: Path) -> None:
        sent, unsent = (Outbox.open(tmp_path, max_bytes=MEGABYTE) for _ in range(2))
        for one in (sent, unsent):
            append(one)
        sent.unsent.assign_partitions(4)
        abandon(sent)
        abandon(unsent)

        left = {one.unsent.producer_id: one for one in Outbox.predecessors(tmp_path)}

        assert left[sent.producer_id].unsent.is_in_doubt
        assert left[sent.producer_id].unsent.position.partitions == 4
        assert not left[unsent.producer_id].unsent.is_in_doubt
        for taken in left.values():
            taken.release()


APPENDER = """
import sys
from pathlib import Path
from tests.unit.producers.outbox.test_outbox import event
from spendmeter_gateway.outbox.writer import Outbox
outbox = Outbox.open(Path(sys.argv[1]), max_bytes=10**9)
while True:
    recorded = outbox.append(lambda seq: event(outbox.producer_id, seq, "x" * 200))
    sys.stdout.buffer.write(b"%d\\n" % recorded.seq)
    sys.stdout.buffer.flush()
"""


def test_every_event_that_was_recorded_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    root = Path(__file__).parents[4]
    with subprocess.Popen(
        [sys.executable, "-c", APPENDER, str(tmp_path)], cwd=root, stdout=subprocess.PIPE
    ) as appender:
        assert appender.stdout is not None
        for line in appender.stdout:
            if int(line) >= 500:
                assert Outbox.predecessors(tmp_path) == [], "it lives"
                appender.kill()
                break
        told = [int(line) for line in appender.stdout.read().splitlines(keepends=True) if line[-1:] == b"\n"]

    (left,) = Outbox.predecessors(tmp_path)
    found = finish(left.unsent)

    assert found == list(range(1, len(found) + 1))
    assert len(found) >= max(told, default=500)
    left.release()


def fill(outbox: Outbox) -> int:
    """Append until the bound; returns how many were kept."""
    for count in range(MANY):
        try:
            append(outbox)
        except OutboxFull:
            return count
    raise AssertionError("the bound was never reached")


def refuse(code: int) -> Callable[..., int]:
    def refused(*_: object, **__: object) -> int:
        raise OSError(code, os.strerror(code))

    return refused
