"""Who is who: each vendor's id, name and domain for an account, and how they can be brought together.

Lives here: identifiers, how an account can be matched, spellings, merges and new names. Must not live here: matching
itself (that is the pipeline's work), or the vendors' file formats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sandbox import faults, names
from sandbox.randomness import Bools, Ints, Keys, digit_ids, hex_ids, key, pick, uniform
from sandbox.timeline import DAY, NEVER
from sandbox.world import World

BY_ID, BY_DOMAIN, BY_NAME, NOT_AT_ALL = range(4)
LINKS = ("id", "domain", "name", "none")
SECOND_COMPANY = 1 << 27
"""Added to an account's number to get the number of its second CRM company."""
NEW_OWNERS_WITHIN = 730 * DAY


@dataclass(frozen=True)
class Identity:
    """One chunk's accounts as the vendors know them (arrays over accounts; times in seconds, NEVER for never)."""

    keys: Keys
    link: Ints
    crm_id: pa.Array
    second_id: pa.Array
    merged_at: Ints
    second_created: Ints
    renamed_at: Ints
    crm_name: pa.Array
    new_name: pa.Array
    second_name: pa.Array
    crm_domain: pa.Array
    true_domain: pa.Array
    customer_id: pa.Array
    workspace_id: pa.Array
    organization_id: pa.Array
    spellings: dict[str, pa.Array]
    vendor_domains: dict[str, pa.Array]
    crm_links: dict[str, pa.Array]
    owner: Ints
    next_owner: Ints
    owner_changes_at: Ints


def _spelling(name: pa.Array, country: Ints, keys: Keys, vendor: str) -> pa.Array:
    """The same name as another team would type it: case, legal form, spaces."""
    bare = pick(names.LEGAL_FORMS_BARE, country)
    forms = [
        names.join(name, " ", pick(names.LEGAL_FORMS, country)),
        name,
        pc.utf8_upper(name),
        names.join(name, " ", bare),
        names.join(name, ", ", pick(names.LEGAL_FORMS, country)),
        pc.utf8_lower(name),
    ]
    choice = np.searchsorted(np.array([0.5, 0.65, 0.75, 0.87, 0.95]), uniform(keys, "spelling " + vendor))
    return pc.choose(pa.array(choice), *forms)


def _moment(keys: Keys, purpose: str, created: Ints, begin: int, end: int, hit: Bools, later: Bools) -> Ints:
    """A moment within the history for rows of `hit`, within two years after it (or after creation) for `later`."""
    first = np.maximum(created + 20 * DAY, begin)
    room = np.maximum(0, end - 10 * DAY - first)
    draw = uniform(keys, purpose)
    inside = np.where(hit & (room > 0), first + (draw * room).astype(np.int64), NEVER)
    after = np.maximum(first, end) + (draw * NEW_OWNERS_WITHIN).astype(np.int64)
    return np.where(hit, inside, np.where(later, after, NEVER)).astype(np.int64)


def identify(world: World, *, begin: int, end: int, owners: int) -> Identity:
    """Give each account of a chunk its ids and names; `begin` and `end` bound the history in seconds."""
    a, index, seed = world.accounts, world.index, world.seed
    keys = key("account", index, seed=seed)
    draw = uniform(keys, "link")
    edges = np.cumsum(
        [
            faults.DOMAIN_LINK_RATE,
            faults.NAME_LINK_RATE,
            faults.UNMATCHED_RATE,
            faults.MERGED_RATE,
            faults.RENAMED_RATE,
            faults.RENAMED_RATE,
        ]
    )
    lot = np.searchsorted(edges, draw, side="right")
    link = np.choose(lot, [BY_DOMAIN, BY_NAME, NOT_AT_ALL, BY_ID, BY_ID, BY_ID, BY_ID]).astype(np.int64)
    never = np.zeros(world.size, dtype=bool)
    merged_at = _moment(keys, "merge", a["created"] + 30 * DAY, begin, end, lot == 3, never)
    second_created = np.where(
        merged_at < NEVER, a["created"] + (0.7 * (merged_at - a["created"])).astype(np.int64), NEVER
    ).astype(np.int64)
    renamed_at = _moment(keys, "rename", a["created"], begin, end, lot == 4, lot == 5)
    name, short, slug = names.company_names(index, seed)
    legal = pick(names.LEGAL_FORMS, a["country"])
    crm_name = names.join(name, " ", legal)
    domain = names.join(slug, ".", pick(names.TOP_LEVELS, a["country"]))
    free = (uniform(keys, "free mail") < faults.FREE_MAIL_RATE) & (link != BY_DOMAIN)
    free_domain = pick(names.FREE_MAIL, np.floor(4 * uniform(keys, "which mail")).astype(np.int64))
    crm_domain = pc.if_else(pa.array(free), free_domain, domain)
    crm_id = pa.array(digit_ids("company", index, 30, seed)).cast(pa.string())
    second_id = pa.array(digit_ids("company", index + SECOND_COMPANY, 30, seed)).cast(pa.string())

    spellings, domains, links = {}, {}, {}
    nothing = pa.nulls(world.size, pa.string())
    trade = names.join(short, " Holdings")
    for vendor in ("billing", "support", "product"):
        alone = (link == BY_DOMAIN) | ((link == NOT_AT_ALL) & (vendor == "support"))
        known = (link == BY_ID) | ((link == NOT_AT_ALL) & (vendor != "support"))
        hidden = (link == BY_NAME) | ((link == NOT_AT_ALL) & (vendor == "support"))
        spelled = _spelling(name, a["country"], keys, vendor)
        spellings[vendor] = pc.if_else(pa.array(alone), trade, spelled)
        loud = uniform(keys, "loud domain " + vendor) < 0.05
        shown = pc.if_else(pa.array(loud & (link != BY_NAME)), pc.utf8_upper(crm_domain), crm_domain)
        domains[vendor] = pc.if_else(pa.array(hidden), nothing, shown)
        to_second = (merged_at < NEVER) & (second_created < NEVER) & (uniform(keys, "to second " + vendor) < 0.5)
        target = pc.if_else(pa.array(to_second), second_id, crm_id)
        links[vendor] = pc.if_else(pa.array(known), target, nothing)

    change = uniform(keys, "owner change")
    owner = np.floor(owners * uniform(keys, "owner")).astype(np.int64)
    return Identity(
        keys=keys,
        link=link,
        crm_id=crm_id,
        second_id=second_id,
        merged_at=merged_at,
        second_created=second_created,
        renamed_at=renamed_at,
        crm_name=crm_name,
        new_name=names.join(name, " Global ", legal),
        second_name=pc.utf8_upper(name),
        crm_domain=crm_domain,
        true_domain=domain,
        customer_id=hex_ids("cus_", key("customer", index, seed=seed)),
        workspace_id=hex_ids("ws_", key("workspace", index, seed=seed)),
        organization_id=pa.array(digit_ids("organization", index, 30, seed)).cast(pa.string()),
        spellings=spellings,
        vendor_domains=domains,
        crm_links=links,
        owner=owner,
        next_owner=(owner + 1 + np.floor((owners - 1) * uniform(keys, "next owner")).astype(np.int64)) % owners,
        owner_changes_at=_moment(
            keys,
            "handover",
            a["created"],
            begin,
            end,
            change < faults.OWNER_CHANGE_RATE,
            (change >= faults.OWNER_CHANGE_RATE) & (change < 2 * faults.OWNER_CHANGE_RATE),
        ),
    )
