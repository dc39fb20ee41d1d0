"""Laws of the outbox's files: whatever byte a crash or a bad disk hits, whole events are read in order."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from spendmeter_gateway.outbox.frames import MAGIC, encode, parse
from spendmeter_gateway.outbox.reader import Checkpoint, CheckpointFile, OutboxReader

TEXTS = st.lists(st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")), max_size=12)
MANY = 1_000


def framed(texts: list[bytes]) -> bytes:
    return b"".join(encode(seq, text) for seq, text in enumerate(texts, start=1))


@given(TEXTS, st.data())
def test_a_file_cut_at_any_byte_holds_every_event_before_the_cut(
    texts: list[bytes], data: st.DataObject
) -> None:
    whole = framed(texts)
    cut = data.draw(st.integers(0, len(whole)))

    parsed = parse(whole[:cut], 0, MANY)

    assert [frame.payload for frame in parsed.frames] == texts[: len(parsed.frames)]
    next_event = encode(0, texts[len(parsed.frames)]) if len(parsed.frames) < len(texts) else b""
    assert parsed.end <= cut < parsed.end + len(next_event) or not next_event
    assert parsed.skipped_bytes == 0


@given(TEXTS.filter(bool), st.data())
def test_damage_costs_the_event_that_it_hits_and_no_other(texts: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(framed(texts))
    hit = data.draw(st.integers(0, len(whole) - 1))
    whole[hit] ^= data.draw(st.integers(1, 255))
    position, hit_event = 0, 0
    for seq, text in enumerate(texts, start=1):
        position += len(encode(seq, text))
        if hit < position:
            hit_event = seq
            break

    parsed = parse(bytes(whole), 0, MANY)

    assert [frame.seq for frame in parsed.frames] == [
        seq for seq in range(1, len(texts) + 1) if seq != hit_event
    ]
    assert parsed.skipped_bytes + (len(whole) - parsed.end) == len(encode(hit_event, texts[hit_event - 1]))


@given(st.lists(st.binary(max_size=60), max_size=5), st.binary(max_size=40))
def test_no_bytes_at_all_make_the_reader_stop_or_raise(junk: list[bytes], tail: bytes) -> None:
    parsed = parse(MAGIC.join(junk) + tail, 0, MANY)

    assert 0 <= parsed.end <= len(MAGIC.join(junk) + tail)


@given(TEXTS, st.binary(max_size=100), st.integers(1, 5), st.integers(0, 12))
def test_a_torn_end_is_cut_and_everything_before_is_sent_once(
    texts: list[bytes], torn: bytes, events_per_read: int, acknowledged: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "000000000001.segment").write_bytes(framed(texts[:4]) + torn)
        (directory / "000000000002.segment").write_bytes(
            b"".join(encode(seq, text) for seq, text in enumerate(texts[4:], start=5)) + torn
        )
        before = CheckpointFile(directory / "position")
        before.write(Checkpoint(acknowledged, 4))
        before.close()
        unsent = OutboxReader(directory, "p", is_live=False)

        found = []
        while frames := unsent.read(events_per_read):
            assert len(frames) <= events_per_read
            found += frames
            unsent.acknowledge(frames[-1].seq)

        assert [frame.seq for frame in found] == list(range(acknowledged + 1, len(texts) + 1))
        assert [frame.payload for frame in found] == texts[acknowledged:]
        assert list(directory.glob("*.segment")) == [], "finished segments go"
        unsent.close()


@given(
    st.lists(
        st.tuples(st.integers(0, 2**60), st.integers(0, 10_000), st.sampled_from(("", "a" * 22, "b" * 22))),
        max_size=5,
    ),
    st.integers(0, 100),
    st.integers(1, 255),
)
def test_a_torn_position_costs_at_most_the_last_step(
    steps: list[tuple[int, int, str]], hit: int, flip: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "position"
        file = CheckpointFile(path)
        for step in steps:
            file.write(Checkpoint(*step))
        file.close()
        whole = CheckpointFile(path)
        whole.close()
        assert whole.value == (Checkpoint(*steps[-1]) if steps else Checkpoint(0, 0))
        content = bytearray(path.read_bytes())
        if content:
            content[hit % len(content)] ^= flip
        path.write_bytes(content)

        again = CheckpointFile(path)
        again.close()

        allowed = [Checkpoint(0, 0), *(Checkpoint(*step) for step in steps)][-2:]
        assert again.value[:2] in [position[:2] for position in allowed]
        assert again.value.incarnation in ("", steps[-1][2] if steps else "")
