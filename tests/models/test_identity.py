"""Which records of different sources are one company, for all that sources write where they have nothing to say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core import identity
from core.placeholders import PLACEHOLDERS
from core.warehouse import rows
from data_quality import named_ids

MODELS = ("int_accounts_unioned", "int_accounts_matched")
Records = Sequence[Mapping[str, Any]]


@pytest.fixture(scope="session")
def matched(built: Any, partly_modelled: Any) -> Callable[..., tuple[dict[str, str], list[dict[str, Any]]]]:
    """The account of each billing record, and what is said about ids that name no account."""

    def match(crm: Records, billing: Records) -> tuple[dict[str, str], list[dict[str, Any]]]:
        created = {"created_at": datetime(2024, 1, 1)}
        facts = {
            (source, "accounts"): [created | row for row in given]
            for source, given in (("crm", crm), ("billing", billing))
        }
        with partly_modelled(built, MODELS, facts, datetime(2024, 7, 1)) as connection:
            found = rows(connection, "from intermediate.int_accounts_matched where source = 'billing'")
            return {row["source_account_id"]: row["account_id"] for row in found}, named_ids.measure(connection)

    return match


def written(words: Sequence[str]) -> st.SearchStrategy[str]:
    """A word as people write it: in any case, with blanks around it."""
    return st.builds(
        lambda word, case, blank: blank + getattr(word, case)() + blank,
        st.integers(0, len(words) - 1).map(words.__getitem__),
        CASES,
        BLANKS,
    )


CASES = st.sampled_from(["lower", "upper", "title"])
BLANKS = st.sampled_from(["", " "])
placeholders = written(PLACEHOLDERS)
shared = written(sorted(identity.shared_domains()))
suffixes = written(sorted(identity.public_suffixes()))
few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
domains = st.one_of(
    placeholders,
    shared,
    suffixes,
    shared.map(lambda domain: f"jo@{domain.strip()}"),
    shared.map(lambda domain: f"https://www.blog.{domain.strip()}/acme"),
    st.sampled_from(["10.0.0.1", "localhost", "acme", "none.com", "acme.local", "http://"]),
)


@few
@given(name=placeholders, domain=domains, crm_id=placeholders)
def test_what_stands_for_nothing_or_for_many_joins_no_two_records(
    matched: Any, name: str, domain: str, crm_id: str
) -> None:
    record = {"name": name, "domain": domain}
    found, said = matched([record | {"account_id": crm_id}], [record | {"crm_account_id": crm_id, "account_id": "b"}])
    assert found == {"b": "billing:b"}
    assert said == []


@pytest.mark.parametrize(
    ("crm", "billing"),
    [
        ("control.example", "jo@control.example"),
        ("https://www.Acme.com/about", "acme.com"),
        ("acme.myshopify.com", "https://acme.myshopify.com/"),
        ("acme.github.io", "acme.github.io"),
        ("acme.co.uk", "ACME.co.uk"),
        ("пример.рф", "пример.рф"),
    ],
)
def test_a_companys_own_domain_joins_its_records(matched: Any, crm: str, billing: str) -> None:
    found, _ = matched([{"account_id": "1", "domain": crm}], [{"account_id": "b", "domain": billing}])
    assert found == {"b": "1"}


@pytest.mark.parametrize(
    ("listed", "named", "is_same"),
    [
        ("001Ax000004kZzQIAU", "001Ax000004kZzQ", True),
        ("001Ax000004kZzQ", "001Ax000004kZzQIAU", True),
        ("001Ax000004kZzQIAU", "001Ax000004kZzq", False),  # another record: letters differ by case
        ("001Ax000004kZzQIAU", "001Ax000004kZzQIAV", False),  # the last three do not follow from the first fifteen
        ("5012", "5012.0", True),
        ("5012.0", "5012", True),
        ("5012", "5012.5", False),
        ("5012", "05012", False),
        ("0F8FAD5B-D9CB-469F-A165-70867728950E", "{0f8fad5b-d9cb-469f-a165-70867728950e}", True),
    ],
)
def test_ids_are_the_same_in_every_form_that_systems_write_them_in(
    matched: Any, listed: str, named: str, is_same: bool
) -> None:
    found, said = matched([{"account_id": listed}], [{"account_id": "b", "crm_account_id": named}, {"account_id": "c"}])
    assert found == {"b": listed if is_same else "billing:b", "c": "billing:c"}
    assert said == [
        {"source": "billing", "named": 1, "unknown": 0 if is_same else 1, "sample": [] if is_same else [named]}
    ]
