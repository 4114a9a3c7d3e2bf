"""The lists of what identifies no company."""

from __future__ import annotations

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from core import identity
from core.identity import canonical_id, canonical_id_sql
from core.placeholders import PLACEHOLDERS
from core.settings import IdentityConfig
from core.warehouse import rows, scratch


@pytest.mark.parametrize(
    "domain",
    [
        "gmail.com",
        "naver.com",
        "daum.net",
        "qq.com",
        "web.de",
        "mail.ru",
        "yahoo.co.jp",
        "wp.pl",
        "uol.com.br",
        "linkedin.com",
    ],
)
def test_mail_providers_and_pages_of_many_companies_are_shared(domain: str) -> None:
    assert domain in identity.shared_domains()


@pytest.mark.parametrize(
    "suffix", ["com", "co.uk", "ck", "gmbh", "xn--p1ai", "рф", "example", "myshopify.com", "github.io"]
)
def test_suffixes_are_known_whoever_rents_out_the_names_below(suffix: str) -> None:
    assert suffix in identity.public_suffixes()


@pytest.mark.parametrize("word", ["local", "con", "internal", "1", "acme.com", ""])
def test_what_is_no_public_suffix_is_none(word: str) -> None:
    assert word not in identity.public_suffixes()


def test_everything_is_in_the_form_in_which_it_is_compared() -> None:
    for values in identity.lists().values():
        assert all(value == value.strip().lower() for value in values)


def test_the_table_holds_every_list_once_with_the_companys_own_domains() -> None:
    with scratch() as connection:
        for _ in range(2):
            identity.write(connection, ["club.example"])
        found = {row["kind"]: set(row["found"]) for row in rows(connection, COUNTED)}
    assert found == {kind: set(values) for kind, values in identity.lists(["club.example"]).items()}
    assert found["placeholder"] == set(PLACEHOLDERS)
    assert "club.example" in found["shared_domain"]


COUNTED = "select kind, list(value) as found from ledger.identity_lists group by kind"


def test_shared_domains_of_the_configuration_are_domains() -> None:
    assert IdentityConfig(shared_domains=(" Club.Example ",)).shared_domains == ("club.example",)
    for wrong in ("https://club.example", "club", "jo@club.example", "club.example/about"):
        with pytest.raises(ValueError, match="is no domain; write it like"):
            IdentityConfig(shared_domains=(wrong,))


IDS = st.one_of(
    st.text(max_size=20),
    st.from_regex(r"[0-9a-zA-Z]{15}", fullmatch=True),
    st.from_regex(r"[0-9]{1,20}[.]0{1,3}", fullmatch=True),
    st.uuids().map(lambda one: "{" + str(one).upper() + "}"),
)


@settings(deadline=None)
@example(texts=["000000000000000.0"])
@given(texts=st.lists(IDS.filter(lambda text: "\0" not in text), max_size=20))
def test_an_id_has_one_form_in_python_and_in_sql_and_keeps_it(texts):
    with duckdb.connect() as connection:
        asked = f"select list_transform($1::varchar[], lambda x: {canonical_id_sql('x')})"
        assert connection.execute(asked, [texts]).fetchone()[0] == [canonical_id(text) for text in texts]
    assert [canonical_id(canonical_id(text)) for text in texts] == [canonical_id(text) for text in texts]


def test_forms_of_one_id_are_one():
    guid = "0a1b2c3d-0000-1111-2222-333344445555"
    assert {canonical_id(text) for text in (guid, guid.upper(), "{" + guid + "}")} == {guid}
    assert {canonical_id(text) for text in ("5012", "5012.0", "5012.000")} == {"5012"}
    assert canonical_id("001A0000006Vm9r") == canonical_id("001A0000006Vm9rIAC")
    assert canonical_id("001a0000006Vm9r") != canonical_id("001A0000006Vm9r")
