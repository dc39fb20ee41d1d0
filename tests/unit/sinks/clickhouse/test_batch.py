"""Cutting a partition's records into plans."""

from dataclasses import dataclass, field

from spendmeter_sinks.clickhouse.batch import Bounds, PartitionBatches
from spendmeter_sinks.clickhouse.plan import CommitNote, InsertPlan, read_commit_note

TEN_ROWS = Bounds(rows=10, bytes=1_000_000)


@dataclass
class Stored:
    offset: int
    value: bytes | None = b"v"
    key: bytes | None = b"k"
    topic: str = "spend.usage"
    partition: int = 3
    timestamp: int = 1_700_000_000_000
    headers: list[tuple[str, bytes]] = field(default_factory=list)


def filled(
    offsets: range, bounds: Bounds = TEN_ROWS, inherited: InsertPlan | None = None
) -> PartitionBatches:
    batches = PartitionBatches(bounds, offsets.start, inherited)
    batches.add([Stored(n) for n in offsets], offsets.stop)
    return batches


def test_the_token_names_the_range_and_which_topic_of_that_name() -> None:
    assert InsertPlan(5, 9, 1_700_000_000_000).token("spend.usage", 3) == "spend.usage:3:5-9@1700000000000"


def test_a_plan_is_read_back_from_the_offset_and_its_metadata() -> None:
    plan = InsertPlan(5, 9, 1_700_000_000_000)
    note = CommitNote(plan=plan)
    assert note.metadata() == '{"planned_last": 9, "stamp_ms": 1700000000000}'
    assert read_commit_note(5, note.metadata()) == note
    named = CommitNote("an-id", InsertPlan(5, 9, 1, "an-id"), 4)
    assert read_commit_note(5, named.metadata()) == named
    at_rest = CommitNote("an-id", None, 4)
    assert read_commit_note(5, at_rest.metadata()) == at_rest


def test_topics_of_one_name_have_other_tokens() -> None:
    tokens = {
        InsertPlan(0, 9, 1, incarnation).token("spend.usage", 0) for incarnation in ("", "one", "other")
    }
    assert len(tokens) == 3


def test_metadata_that_is_not_ours_is_no_plan() -> None:
    for text in ("", "somebody's note", "[]", "{}", '{"planned_last": "x", "stamp_ms": 1}', "null"):
        assert read_commit_note(5, text) == CommitNote(), text


def test_a_plan_that_ends_before_it_begins_is_none() -> None:
    assert read_commit_note(10, '{"planned_last": 9, "stamp_ms": 1}').plan is None
    assert read_commit_note(9, '{"planned_last": 9, "stamp_ms": 1}').plan == InsertPlan(9, 9, 1)


def test_the_tenth_row_still_fits_and_the_eleventh_waits() -> None:
    assert filled(range(10)).cut() == InsertPlan(0, 9, 1_700_000_000_000)
    eleven = filled(range(11))
    assert eleven.cut() == InsertPlan(0, 9, 1_700_000_000_000)
    eleven.finish()
    assert eleven.cut() == InsertPlan(10, 10, 1_700_000_000_000)


def test_bytes_bound_a_batch_but_never_keep_a_record_out() -> None:
    # Each record is two bytes.
    assert filled(range(5), Bounds(10, 4)).cut() == InsertPlan(0, 1, 1_700_000_000_000)
    assert filled(range(5), Bounds(10, 5)).cut() == InsertPlan(0, 1, 1_700_000_000_000)
    assert filled(range(5), Bounds(10, 1)).cut() == InsertPlan(0, 0, 1_700_000_000_000)


def test_an_inherited_plan_is_kept_to_the_letter_though_it_is_beyond_our_bounds() -> None:
    inherited = InsertPlan(0, 14, 99)
    batches = filled(range(14), inherited=inherited)
    assert batches.cut() is None, "offset 14 has not been read"
    assert not batches.is_full, "reading must go on"
    batches.add([Stored(14), Stored(15)], 16)
    assert batches.cut() == inherited
    assert [r.offset for r in batches.planned()] == list(range(15))
    batches.finish()
    assert batches.committable() == (15, "")


def test_an_inherited_plan_ends_although_compaction_took_its_last_records() -> None:
    batches = PartitionBatches(TEN_ROWS, 0, InsertPlan(0, 9, 99))
    batches.add([Stored(0)], 1)
    batches.add((), 10)
    assert batches.cut() == InsertPlan(0, 9, 99)
    assert [r.offset for r in batches.planned()] == [0]


def test_what_stands_in_kafka_is_the_plan_while_there_is_one_and_the_position_after() -> None:
    batches = filled(range(3))
    assert batches.committable() == (0, "")
    plan = batches.cut()
    assert plan is not None
    assert batches.committable() == (0, CommitNote(plan=plan).metadata())
    batches.finish()
    assert batches.committable() == (3, "")


def test_a_new_group_has_nothing_to_commit_before_its_first_record() -> None:
    assert PartitionBatches(TEN_ROWS, None).committable() is None


def test_a_refused_plan_is_halved_from_the_same_first_record() -> None:
    batches = filled(range(10))
    batches.cut()
    assert batches.refuse()
    assert batches.plan == InsertPlan(0, 4, 1_700_000_000_000)
    assert batches.refuse()
    assert batches.plan == InsertPlan(0, 1, 1_700_000_000_000)
    assert batches.refuse()
    assert batches.plan == InsertPlan(0, 0, 1_700_000_000_000)
    assert not batches.refuse()


def test_batches_grow_again_after_a_refusal() -> None:
    batches = filled(range(100))
    batches.cut()
    while batches.refuse():
        pass
    sizes = []
    while (plan := batches.cut()) is not None:
        sizes.append(plan.last - plan.first + 1)
        batches.finish()
    assert sizes[:6] == [1, 2, 4, 8, 10, 10]


def test_a_log_that_ends_in_what_is_no_record_is_read_to_its_end() -> None:
    batches = PartitionBatches(TEN_ROWS, None)
    batches.pass_over(0)
    assert batches.committable() == (0, "")
    batches.pass_over(4)
    assert batches.committable() == (4, "")
    batches.add([Stored(4)], 5)
    batches.pass_over(6)
    assert batches.committable() == (4, ""), "a record waits"
    batches.cut()
    batches.finish()
    assert batches.committable() == (5, "")
    batches.pass_over(6)
    assert batches.committable() == (6, "")


def test_the_oldest_record_is_the_first_that_waits() -> None:
    batches = PartitionBatches(TEN_ROWS, 0)
    found = [batches.oldest_ms]
    batches.add([Stored(n, timestamp=1_000 + n) for n in range(12)], 12)
    for _ in range(2):
        found.append(batches.oldest_ms)
        batches.cut()
        batches.finish()
    assert [*found, batches.oldest_ms] == [None, 1_000, 1_010, None]
