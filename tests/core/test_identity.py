"""The lists of what identifies no company."""

from __future__ import annotations

import pytest

from core import identity
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
