"""The file between daemon and supervisor: what is written is read, and damage never becomes another statement."""

from hypothesis import given
from hypothesis import strategies as st

from perdure.adapters.fence import record

BOOT = "52aabffc-4d85-419f-8daf-b670c61d44ef"
INSTANTS = st.floats(0, 1e9, allow_nan=False)


@st.composite
def statements(draw: st.DrawFn) -> record.Held:
    held = record.Held(
        f"{draw(st.from_regex(r'[a-z][a-z0-9-]{0,62}', fullmatch=True))}/{draw(st.integers(1, 99))}",
        draw(st.integers(0, 1 << 62)),
        draw(st.integers(2, 1 << 22)),
        draw(st.integers(0, 1 << 60)),
    )
    held.sequence = draw(st.integers(1, 1 << 40))
    if draw(st.booleans()):
        held.term_at, held.kill_at = sorted(draw(st.tuples(INSTANTS, INSTANTS)))
    return held


def words(held: record.Held | record.Done | None) -> dict[str, object]:
    return {} if held is None else {name: getattr(held, name) for name in held.__slots__}


def file_of(*statements: record.Held) -> bytearray:
    content = bytearray(record.BLANK * 4)
    for held in statements:
        content[held.offset : held.offset + record.RECORD_BYTES] = held.encode(BOOT)
    return content


def pair(first: record.Held, second: record.Held) -> bytearray:
    second.sequence = first.sequence + 1
    return file_of(first, second)


@given(statements(), statements())
def test_the_later_of_two_statements_counts_wherever_it_is(first: record.Held, second: record.Held) -> None:
    assert words(record.newest(bytes(pair(first, second)), BOOT)) == words(second)


@given(statements(), statements(), st.data())
def test_damage_to_the_later_one_leaves_the_one_before(
    first: record.Held, second: record.Held, data: st.DataObject
) -> None:
    content = pair(first, second)
    length = len(second.encode(BOOT).rstrip())
    at = second.offset + data.draw(st.integers(0, length - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    assert words(record.newest(bytes(content), BOOT)) == words(first)


@given(statements(), statements(), st.integers(0, record.FILE_BYTES))
def test_a_file_that_was_cut_states_what_was_stated_or_nothing(
    first: record.Held, second: record.Held, size: int
) -> None:
    found = words(record.newest(bytes(pair(first, second)[:size]), BOOT))
    assert found in ({}, words(first), words(second))


@given(statements())
def test_nothing_of_an_earlier_boot_or_another_format_is_believed(held: record.Held) -> None:
    content = bytes(file_of(held))
    assert record.newest(content, BOOT.replace("5", "6")) is None
    other = record._encode("hold", "2", held.sequence, BOOT, held.slot, 1, 2, 3, "-", "-")
    assert record.newest(other, BOOT) is None


@given(statements(), st.sampled_from(["SIGTERM", "SIGKILL"]), INSTANTS, INSTANTS, st.none() | INSTANTS)
def test_what_was_done_is_read_as_it_was_written(
    held: record.Held, signal: str, due_at: float, at: float, gone_at: float | None
) -> None:
    done = record.Done(held, signal, due_at, at)
    done.gone_at = gone_at
    content = file_of(held)
    offset = record.ACTED_AT[signal]
    content[offset : offset + record.RECORD_BYTES] = done.encode(BOOT)
    assert [words(one) for one in record.done(bytes(content), BOOT)] == [words(done)]
    assert words(record.newest(bytes(content), BOOT)) == words(held)


def test_process_groups_that_stand_for_every_process_are_never_held() -> None:
    for pid in (1, -1, -5):
        assert record.newest(bytes(file_of(record.Held("web/1", 1, pid, 5))), BOOT) is None


def test_a_released_service_is_a_statement_too() -> None:
    before, released = record.Held("web/1", 4, 77, 5), record.Held("web/1", 4, 0, 0)
    found = record.newest(bytes(pair(before, released)), BOOT)
    assert found is not None
    assert (found.pid, found.epoch) == (0, 4)
