"""Who is who: ids that never collide, and the share of accounts that only a domain or a name brings together."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pytest

from sandbox import faults, names
from sandbox.identity import BY_DOMAIN, BY_NAME, NOT_AT_ALL, Identity, identify
from sandbox.timeline import Months, epoch
from sandbox.world import simulate

COUNT = 30_000


@pytest.fixture(scope="module")
def who() -> Identity:
    world = simulate(
        Months(date(2023, 7, 1)),
        seed=1,
        chunk=0,
        index=np.arange(COUNT),
        first_month=0,
        last_arrival=2,
        horizon=2,
        events_scale=0.01,
    )
    return identify(world, begin=epoch(date(2023, 7, 1)), end=epoch(date(2023, 9, 1)), owners=10)


def test_about_three_percent_of_the_accounts_match_only_by_domain_or_name(who: Identity) -> None:
    by_domain, by_name = np.mean(who.link == BY_DOMAIN), np.mean(who.link == BY_NAME)
    assert abs(by_domain - faults.DOMAIN_LINK_RATE) < 0.003
    assert abs(by_name - faults.NAME_LINK_RATE) < 0.003
    assert 0.025 < by_domain + by_name < 0.035
    assert 0 < np.mean(who.link == NOT_AT_ALL) < 0.006


@pytest.mark.parametrize(
    "ids", ["crm_id", "second_id", "customer_id", "workspace_id", "organization_id", "true_domain"]
)
def test_no_id_occurs_twice(who: Identity, ids: str) -> None:
    assert pc.count_distinct(getattr(who, ids)).as_py() == COUNT


def test_no_company_has_the_name_of_another_even_among_a_million() -> None:
    name, _, slug = names.company_names(np.arange(1_000_000), seed=7)
    assert pc.count_distinct(name).as_py() == 1_000_000
    assert pc.count_distinct(slug).as_py() == 1_000_000


def test_ids_of_the_first_and_the_second_company_never_meet(who: Identity) -> None:
    assert not pc.any(pc.is_in(who.crm_id, who.second_id)).as_py()


def test_accounts_that_match_by_domain_or_name_carry_no_id_and_only_what_matches(founded: Any) -> None:
    for vendor, table, domain, link, own in (
        ("billing", "customers", "email_domain", "metadata->>'crm_id'", "customer_id"),
        ("support", "organizations", "domain_names", "external_id", "organization_id"),
        ("product", "workspaces", "v.domain", "v.crm_id", "workspace_id"),
    ):
        shown = founded.rows(f"""
            select t.{vendor}_match, bool_or({link} is not null), bool_and({link} is not null),
                bool_or({domain} is not null), bool_and(lower({domain}) = c.domain)
            from truth_identities t join {table} v on v.id = t.{own}
            join (select id, any_value(domain) as domain from companies group by id) c on c.id = t.account_id group by 1
        """)
        found = {row[0]: row[1:] for row in shown}
        assert found["id"][1] is True
        assert found["domain"] == (False, False, True, True)
        assert found["name"][0] is False
        assert found["name"][2] is False


def test_an_id_link_leads_to_the_account_or_to_its_second_company(lived: Any) -> None:
    astray = lived.rows("""
        select v.id, v.crm_id from workspaces v join truth_identities t on t.workspace_id = v.id
        where v.crm_id is not null and v.crm_id not in (t.account_id, coalesce(t.second_account_id, ''))
    """)
    assert astray == []
    assert (
        lived.value("select count(*) from workspaces v join truth_identities t on v.crm_id = t.second_account_id") > 0
    )
