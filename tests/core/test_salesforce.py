"""Salesforce's ids in one form, in Python and in SQL."""

from __future__ import annotations

import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.salesforce import full_id, full_id_sql
from core.warehouse import scalar, scratch
from sandbox import salesforce_reading

LETTERS = string.ascii_letters + string.digits


def test_an_id_that_salesforces_documentation_shows() -> None:
    assert full_id("001A0000006Vm9r") == "001A0000006Vm9rIAC"


@pytest.mark.parametrize("same", ["", "5012", "acme", "001000000000001AAA", "0010000000-0001", "00100000000000é"])
def test_what_is_no_id_of_15_characters_stays_as_it_is(same: str) -> None:
    assert full_id(same) == same


@given(st.text(LETTERS, min_size=15, max_size=15))
def test_an_id_of_18_characters_begins_with_that_of_15_and_tells_its_capitals(short: str) -> None:
    long = full_id(short)
    assert (long[:15], len(long), full_id(long)) == (short, 18, long)
    assert long == salesforce_reading.full_id(short)
    bits = [string.ascii_uppercase.find(letter) if letter.isalpha() else 26 + int(letter) for letter in long[15:]]
    assert [bool(bits[place // 5] >> place % 5 & 1) for place in range(15)] == [letter.isupper() for letter in short]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.text(LETTERS, min_size=14, max_size=16) | st.text(max_size=18), max_size=20))
def test_the_sql_says_the_same(texts: list[str]) -> None:
    with scratch() as connection:
        found = scalar(connection, f"select list_transform(?::varchar[], lambda x: {full_id_sql('x')})", [texts])
    assert found == [full_id(text) for text in texts]
