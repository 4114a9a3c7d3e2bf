"""What each vendor knows, as tables: the latent rows of a chunk with the vendor's ids, every later change and fault marks.

Lives here: the join of what happens (`sandbox/world.py`) with who is who (`sandbox/identity.py`), one Arrow table per
vendor object. Must not live here: the vendors' formats (`sandbox/vendors.py`), files.

Every table has `_id`, `_created`, `_visible`, `_copy`, `_broken` (see `sandbox/faults.py`) and `_account`, the CRM's id of
the account that the row is about, for the truth only. Moments are timestamps in UTC, NULL for what never happens.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sandbox import faults, names, text
from sandbox.hazard import BASE_LOGIT, DRIVERS
from sandbox.identity import LINKS, NOT_AT_ALL, SECOND_COMPANY, Identity
from sandbox.randomness import Bools, Ints, Keys, hex_ids, key, pick, uniform
from sandbox.timeline import DAY, NEVER, moments
from sandbox.vendors import BY_NAME
from sandbox.world import CHANNELS, PLANS, PRIORITIES, PRODUCTS, REASONS, ROLES, SEGMENTS, World

NO_PARENT = 0.96


def long_ids(keys: Keys) -> pa.Array:
    """Identifiers of digits only, up to 19 long."""
    return pa.array((keys >> np.uint64(4)).astype(np.int64)).cast(pa.string())


def owner_ids(numbers: Ints) -> pa.Array:
    return pa.array(70_210_000 + numbers * 137).cast(pa.string())


def _where(condition: Bools, yes: pa.Array, no: pa.Array | pa.Scalar) -> pa.Array:
    return pc.if_else(pa.array(condition), yes, no)


def _table(
    object_name: str, ids: pa.Array, account: pa.Array, keys: Keys, created: Ints, /, **columns: pa.Array
) -> pa.Table:
    layout = BY_NAME[object_name]
    marked = faults.marks(keys, created, len(layout.broken), can_be_late=layout.can_be_late)
    return pa.table({"_id": ids, "_account": account, **marked, **columns})


def companies(world: World, who: Identity) -> pa.Table:
    """CRM companies: one per account, and the second one of accounts that were entered twice."""
    a, seed = world.accounts, world.seed
    size = world.size
    second = np.flatnonzero(who.second_created < NEVER)
    rows = np.concatenate([np.arange(size), second])
    is_second = np.arange(len(rows)) >= size
    parent = (np.arange(size) * 7) // 11
    has_parent = (uniform(who.keys, "parent") > NO_PARENT) & (a["created"][parent] < a["created"])
    has_parent &= parent != np.arange(size)
    parent_id = _where(has_parent, who.crm_id.take(pa.array(parent)), pa.scalar(None, pa.string()))

    def of(values: pa.Array) -> pa.Array:
        return values.take(pa.array(rows))

    nothing = pa.scalar(None, pa.string())
    unknown = is_second | (uniform(who.keys, "employees known") < 0.03)[rows]
    created = np.where(is_second, who.second_created[rows], a["created"][rows])
    return _table(
        "companies",
        pc.if_else(pa.array(is_second), of(who.second_id), of(who.crm_id)),
        of(who.crm_id),
        key("company", world.index[rows] % SECOND_COMPANY, 0, is_second.astype(np.int64), seed),
        created,
        name=pc.if_else(pa.array(is_second), of(who.second_name), of(who.crm_name)),
        new_name=of(who.new_name),
        renamed=moments(np.where(is_second, NEVER, who.renamed_at[rows])),
        domain=of(who.crm_domain),
        industry=of(pick(names.INDUSTRIES, a["industry"])),
        country=of(pick(names.COUNTRIES, a["country"])),
        employees=pa.array(a["employees"][rows], mask=unknown),
        segment=of(pick(SEGMENTS, a["segment"])),
        parent=_where(is_second, pa.nulls(len(rows), pa.string()), of(parent_id)),
        owner=owner_ids(who.owner[rows]),
        next_owner=owner_ids(who.next_owner[rows]),
        handed_over=moments(who.owner_changes_at[rows]),
        survivor=_where(is_second, of(who.crm_id), nothing),
        merged=moments(np.where(is_second, who.merged_at[rows], NEVER)),
    )


def _vendor_accounts(world: World, who: Identity, name: str, vendor: str, ids: pa.Array, delay: int) -> pa.Table:
    """The account as another vendor keeps it; it starts to point to the second CRM company once that exists."""
    a = world.accounts
    rows = np.flatnonzero(a["customer"])
    take = pa.array(rows)
    moved = pc.equal(who.crm_links[vendor], who.second_id).fill_null(False)
    first_link = pc.if_else(moved, who.crm_id, who.crm_links[vendor])
    relinked = np.where(np.asarray(moved), who.second_created, NEVER)[rows]
    return _table(
        name,
        ids.take(take),
        who.crm_id.take(take),
        key(name, world.index[rows], seed=world.seed),
        a["first_touch"][rows] + delay,
        name=who.spellings[vendor].take(take),
        domain=who.vendor_domains[vendor].take(take),
        crm_id=first_link.take(take),
        next_crm_id=who.crm_links[vendor].take(take),
        relinked=moments(relinked),
    )


def subscriptions(world: World, who: Identity) -> pa.Table:
    """Billing's subscription items, one row per period at one price."""
    p = world.phases
    rows = p["account"]
    index = world.index[rows]
    take = pa.array(rows)
    keys = key("item", index, p["product"], p["number"], world.seed)
    return _table(
        "subscriptions",
        hex_ids("si_", keys),
        who.crm_id.take(take),
        keys,
        p["start"],
        subscription=hex_ids("sub_", key("subscription", index, 0, p["subscription"], world.seed)),
        customer=who.customer_id.take(take),
        product=pick(PRODUCTS, p["product"]),
        plan=pick(PLANS, p["plan"]),
        billing_interval=pick(("month", "year"), p["yearly"].astype(np.int64)),
        quantity=pa.array(p["seats"]),
        mrr_cents=pa.array(p["cents"]),
        started=moments(p["start"]),
        ended=moments(p["end"]),
        end_reason=pick(REASONS, p["reason"]),
        term_end=moments(p["term_end"]),
        trial=pa.array(p["trial"].astype(bool)),
        monthly=pa.array((p["yearly"] == 0) & (p["trial"] == 0)),
        anchor=pa.array(world.accounts["anchor"][rows]),
    )


def invoices(world: World, who: Identity) -> pa.Table:
    """Billing's invoices with each moment at which their state changes."""
    i = world.invoices
    rows = i["account"]
    keys = key("invoice", world.index[rows], i["month"], 0, world.seed)
    return _table(
        "invoices",
        hex_ids("in_", keys),
        who.crm_id.take(pa.array(rows)),
        keys,
        i["created"],
        customer=who.customer_id.take(pa.array(rows)),
        issued=moments(i["created"]),
        due=moments(i["due"]),
        paid=moments(i["paid"]),
        voided=moments(i["voided"]),
        written_off=moments(i["written_off"]),
        amount_cents=pa.array(i["cents"]),
        attempts=pa.array(i["attempts"]),
    )


def tickets(world: World, who: Identity) -> pa.Table:
    """Support tickets with text."""
    t = world.tickets
    rows = t["account"]
    keys = key("ticket", world.index[rows], t["month"], t["ordinal"], world.seed)
    subject, body = text.ticket_texts(t["tone"], (keys >> np.uint64(20)).astype(np.int64))
    return _table(
        "tickets",
        long_ids(keys),
        who.crm_id.take(pa.array(rows)),
        keys,
        t["opened"],
        organization=who.organization_id.take(pa.array(rows)),
        opened=moments(t["opened"]),
        replied=moments(t["replied"]),
        solved=moments(t["solved"]),
        rated=moments(t["rated"]),
        reopens=pa.array(t["reopens"]),
        priority=pick(PRIORITIES, t["priority"]),
        csat=pa.array(t["csat"]),
        subject=subject,
        body=body,
    )


def contacts(world: World, who: Identity) -> pa.Table:
    """CRM contacts; half of those entered after a second company exists belong to that one."""
    c = world.contacts
    rows = c["account"]
    index = world.index[rows]
    keys = key("contact", index, 0, c["ordinal"], world.seed)
    to_second = (c["created"] > who.second_created[rows]) & (uniform(keys, "to second") < 0.5)
    take = pa.array(rows)
    company = pc.if_else(pa.array(to_second), who.second_id.take(take), who.crm_id.take(take))
    local = names.person_locals((keys >> np.uint64(24)).astype(np.int64))
    return _table(
        "contacts",
        long_ids(keys),
        who.crm_id.take(take),
        keys,
        c["created"],
        company=company,
        email=names.join(local, "@", who.true_domain.take(take)),
        role=pick(ROLES, c["role"]),
        left_at=moments(c["left"]),
        unsubscribed=pa.array(c["unsubscribed"].astype(bool)),
    )


def engagements(world: World, who: Identity) -> pa.Table:
    """CRM e-mails, meetings, calls and notes."""
    e = world.engagements
    rows = e["account"]
    index = world.index[rows]
    keys = key("engagement", index, e["month"], e["ordinal"], world.seed)
    contact = long_ids(key("contact", index, 0, e["contact"], world.seed))
    subject, body = text.engagement_texts(e["topic"])
    outward = ~e["inbound"].astype(bool)
    return _table(
        "engagements",
        long_ids(keys),
        who.crm_id.take(pa.array(rows)),
        keys,
        e["at"],
        company=who.crm_id.take(pa.array(rows)),
        contact=_where(uniform(keys, "contact known") < 0.85, contact, pa.scalar(None, pa.string())),
        type=pick(CHANNELS, e["channel"]),
        direction=pick(("INBOUND", "OUTBOUND"), outward.astype(np.int64)),
        happened=moments(e["at"]),
        subject=subject,
        body=body,
    )


def surveys(world: World, who: Identity) -> pa.Table:
    """NPS answers given inside the product, by one of the account's users."""
    s = world.surveys
    rows = s["account"]
    index = world.index[rows]
    keys = key("survey", index, s["month"], 0, world.seed)
    take = pa.array(rows)
    return _table(
        "surveys",
        hex_ids("sv_", keys),
        who.crm_id.take(take),
        keys,
        s["answered"],
        workspace=who.workspace_id.take(take),
        user=hex_ids("u_", key("user", index, 0, s["user"], world.seed)),
        score=pa.array(s["score"].astype(np.float64)),
        answered=moments(s["answered"]),
        comment=text.survey_comments(s["score"], (keys >> np.uint64(20)).astype(np.int64)),
    )


def all_tables(world: World, who: Identity) -> dict[str, pa.Table]:
    """Every vendor object but owners and events."""
    return {
        "companies": companies(world, who),
        "contacts": contacts(world, who),
        "engagements": engagements(world, who),
        "customers": _vendor_accounts(world, who, "customers", "billing", who.customer_id, 60),
        "subscriptions": subscriptions(world, who),
        "invoices": invoices(world, who),
        "organizations": _vendor_accounts(world, who, "organizations", "support", who.organization_id, 120),
        "tickets": tickets(world, who),
        "workspaces": _vendor_accounts(world, who, "workspaces", "product", who.workspace_id, 0),
        "surveys": surveys(world, who),
    }


def owners(count: int) -> pa.Table:
    """CRM owners: our own people."""
    numbers = np.arange(count)
    first_name, last_name = names.owner_names(count)
    return pa.table(
        {"id": owner_ids(numbers), "email": names.owner_emails(count), "first_name": first_name, "last_name": last_name}
    )


def hazards(world: World, who: Identity) -> pa.Table:
    """Truth: the hazard of each paying account at the start of each month, with each driver's share of the logit."""
    h = world.hazards
    starts = world.months.begin(h["month"])
    return pa.table(
        {
            "account_id": who.crm_id.take(pa.array(h["account"])),
            "month": pa.array((starts // DAY).astype(np.int32)).cast(pa.date32()),
            "hazard": pa.array(h["hazard"]),
            "base": pa.array(np.full(len(starts), BASE_LOGIT)),
            "noise": pa.array(h["noise"]),
            **{name: pa.array(h[name]) for name in DRIVERS},
            "leaves": pa.array(h["left"].astype(bool)),
            "_at": moments(starts),
        }
    )


def departures(world: World, who: Identity) -> pa.Table:
    """Truth: each end of an account's whole business with us, when, for what reason, and which driver weighed most."""
    d = world.departures
    take = pa.array(d["account"])
    driver = pick((*DRIVERS, "noise"), np.where(d["driver"] < 0, len(DRIVERS), d["driver"]))
    return pa.table(
        {
            "account_id": who.crm_id.take(take),
            "customer_id": who.customer_id.take(take),
            "left_at": moments(d["at"]),
            "is_churn": pa.array(d["reason"] < REASONS.index("completed")),
            "reason": pick(REASONS, d["reason"]),
            "main_driver": driver,
            "hazard": pa.array(d["hazard"]),
            "_at": moments(d["at"]),
        }
    )


def identities(world: World, who: Identity) -> pa.Table:
    """Truth: which ids of the four vendors belong together, and by what each vendor's can be matched to the CRM's."""
    a = world.accounts
    customer = a["customer"].astype(bool)
    nothing = pa.scalar(None, pa.string())
    elsewhere = np.where(who.link == NOT_AT_ALL, 0, who.link)
    return pa.table(
        {
            "account_id": who.crm_id,
            "second_account_id": _where(who.second_created < NEVER, who.second_id, nothing),
            "customer_id": _where(customer, who.customer_id, nothing),
            "organization_id": _where(customer, who.organization_id, nothing),
            "workspace_id": _where(customer, who.workspace_id, nothing),
            "billing_match": _where(customer, pick(LINKS, elsewhere), nothing),
            "support_match": _where(customer, pick(LINKS, who.link), nothing),
            "product_match": _where(customer, pick(LINKS, elsewhere), nothing),
            "created_at": moments(a["created"]),
            "_at": moments(a["created"]),
        }
    )
