"""Files with variables: what lines mean, and what is said about those that mean nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perdure.config import envfile
from perdure.config.mistake import Mistake


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=b", "b"),
        ("export A=b", "b"),
        ("  A = b c  ", "b c"),
        ("A=", ""),
        ("A= # nothing", ""),
        ("A=b # comment", "b"),
        ("A=b#c", "b#c"),
        ("A='b # $c \\n'", "b # $c \\n"),
        ('A="b\\nc \\"d\\" \\\\ \\$e" # comment', 'b\nc "d" \\ $e'),
        ("A='two\nlines'", "two\nlines"),
        ("A=b=c", "b=c"),
        ("A=it's", "it's"),
        ("A=b\r", "b"),
        ("A=1\nA=2", "2"),
    ],
)
def test_a_line_means_what_it_means_elsewhere(line: str, value: str) -> None:
    assert envfile.parse(f"# first\n\n{line}\n") == {"A": value}


@pytest.mark.parametrize(
    "line", ["A", "=b", "A-B=c", "1A=b", "A='open s3cr3t", 'A="open s3cr3t', "A='b' s3cr3t", "s3cr3t x=1"]
)
def test_a_line_without_meaning_is_named_by_its_number_and_not_shown(line: str) -> None:
    with pytest.raises(Mistake, match="line 3 is not KEY=value") as caught:
        envfile.parse(f"A=1\nB=2\n{line}\n")
    assert "s3cr3t" not in caught.value.sentence + caught.value.hint


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        variables = envfile.parse(text)
    except Mistake as mistake:
        assert mistake.sentence.startswith("line ")
    else:
        assert all(name.isidentifier() for name in variables)


@given(st.text(st.characters(exclude_characters="'\r\0", exclude_categories=["Cs"])))
def test_single_quotes_keep_everything(value: str) -> None:
    assert envfile.parse(f"A='{value}'\nB=1") == {"A": value, "B": "1"}
