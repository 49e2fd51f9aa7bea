import pytest
from hypothesis import given
from hypothesis import strategies as st

from jscope._tree.text import bytes_text, table

cells = st.text("ab1 ,", max_size=8)


def test_columns_are_aligned_two_spaces_apart():
    rows = [("a/w", "12"), ("encoder", "7")]
    assert table(("name", "size"), rows, right=("size",)).split("\n") == [
        "name     size",
        "a/w        12",
        "encoder     7",
    ]


def test_a_table_of_no_rows_is_its_header():
    assert table(("name", "size"), []) == "name  size"


@given(st.lists(st.tuples(cells, cells), max_size=20), st.integers(1, 8))
def test_the_first_and_last_rows_are_shown_and_the_others_counted(rows, most):
    lines = table(("first", "second"), rows, most=most).split("\n")
    shown = [line for line in lines[1:] if not line.endswith("more ...")]
    assert len(shown) == min(len(rows), most)
    if len(rows) > most:
        head = (most + 1) // 2
        assert lines[1 + head] == f"... {len(rows) - most:,} more ..."
        kept = rows[:head] + rows[len(rows) - (most - head) :]
        assert [line.split() for line in shown] == [" ".join(row).split() for row in kept]


def test_a_row_of_another_length_is_an_error():
    with pytest.raises(ValueError, match="zip"):
        table(("name", "size"), [("a",)])


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (2**20 - 1, "1.0 MiB"),
        (2 * 2**30, "2.0 GiB"),
        (5 * 2**40, "5.0 TiB"),
        (2**60, "1024.0 PiB"),
    ],
)
def test_bytes_for_people(count, text):
    assert bytes_text(count) == text
