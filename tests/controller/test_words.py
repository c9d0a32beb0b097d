"""Words from elsewhere: on one line, printable, and of a bounded length."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from controller.words import printable, shortened


@given(st.text(st.characters(exclude_categories=()), max_size=40))
def test_every_character_of_a_printable_text_can_be_printed_and_written_as_json_in_utf_8(text: str) -> None:
    found = printable(text)
    assert found.isprintable()
    assert found.encode().decode() == found
    assert printable(found) == found


def test_words_that_can_be_printed_stay_as_they_are() -> None:
    assert printable("größer als 5 %: 模型 🚀") == "größer als 5 %: 模型 🚀"
    assert printable("out of\n  memory\t!") == "out of memory !"
    assert printable("\x1b[31mred\x00") == "�[31mred�"


@given(st.text(max_size=40), st.integers(3, 50))
def test_a_shortened_text_is_no_longer_than_asked_and_says_that_it_is_shortened(text: str, most: int) -> None:
    found = shortened(text, most)
    assert len(found) <= most
    assert found == text or found.endswith("...")
