"""What really happens at each account, month by month: the latent simulation behind everything that vendors hold.

Lives here: moods, use, payments, tickets, people, renewals and the decision to leave, for one chunk of accounts, as
NumPy arrays. Must not live here: how a vendor writes it down, faults, files.

A month's draws come from streams of that month only, and no month looks at a later one: simulating further ahead changes
nothing that was simulated before.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sandbox import hazard
from sandbox.randomness import Bools, Floats, Ints, stream
from sandbox.timeline import DAY, NEVER, STANDARD_MONTH, Months

SEGMENTS = ("SMB", "mid-market", "enterprise")
SEGMENT_SHARES = (0.62, 0.28, 0.10)
PLANS = ("starter", "team", "business", "enterprise")
SEAT_PRICES_USD = ((16.0, 29.0, 49.0, 79.0), (6.0, 10.0, 16.0, 24.0))
"""List price per seat and month by product and plan."""
PRODUCTS = ("core", "insights")
CORE, INSIGHTS = 0, 1
YEARLY_FACTOR = 0.85
RENEWAL_UPLIFT = 1.04

NO_REASON, PLAN_CHANGE, SEAT_CHANGE, RENEWAL, CANCELED, PAYMENT_FAILED, COMPLETED, MIGRATED = range(8)
REASONS = (
    None,
    "plan_change",
    "seat_change",
    "renewal",
    "canceled",
    "payment_failed",
    "completed",
    "migrated",
)

ALREADY_CUSTOMERS = 0.62
"""Share of the accounts that paid before the company's first month."""
PROSPECTS = 0.03
TRIALS = 0.6
TRIAL_DAYS = 14
INSIGHTS_AT_START = 0.2
MONTHLY_COMPLETED, MONTHLY_MIGRATED, MONTHLY_RETURN = 0.0005, 0.0005, 0.014
CARD_BREAKS, CARD_MENDED = 0.015, 0.25
CHAMPION_LEAVES, CHAMPION_REPLACED = 0.016, 0.1
DECLINE_STARTS, DECLINE_ENDS = 0.02, 0.11
TICKET_STAYS_OPEN = 0.04
EVENTS_PER_ACTIVE_USER = 6.3
"""Product events per active user in a standard month at the default size of the sandbox."""
PAYMENT_RETRY_DAYS = 3
UNCOLLECTIBLE_DAYS = 30
RESOLUTION_DAYS = (9.0, 4.0, 1.8, 0.9)
"""Median days to a solution by priority, low to urgent."""
PRIORITIES = ("low", "normal", "high", "urgent")
ROLES = ("champion", "admin", "executive", "billing", "user")
CHANNELS = ("EMAIL", "MEETING", "CALL", "NOTE")

NOBODY_LEFT = -10_000
"""Stands for the month in which the champion left, where the champion is still there."""

Table = dict[str, np.ndarray[Any, Any]]


@dataclass(frozen=True)
class Usage:
    """Use of the product in one month (arrays over accounts): events, active users, breadth, and the days' window."""

    count: Ints
    users: Ints
    breadth: Ints
    insights: Bools
    first_day: Ints
    last_day: Ints
    shift: Ints


@dataclass
class World:
    """One chunk of accounts, simulated up to and including month `horizon`. Times are seconds since the epoch."""

    months: Months
    seed: int
    chunk: int
    index: Ints
    horizon: int
    accounts: Table
    usage: list[Usage] = field(default_factory=list)
    phases: Table = field(default_factory=dict)
    invoices: Table = field(default_factory=dict)
    tickets: Table = field(default_factory=dict)
    surveys: Table = field(default_factory=dict)
    contacts: Table = field(default_factory=dict)
    engagements: Table = field(default_factory=dict)
    hazards: Table = field(default_factory=dict)
    departures: Table = field(default_factory=dict)

    @property
    def size(self) -> int:
        return len(self.index)


class _Rows:
    """Columns that grow by whole arrays: whole numbers, and the ones named as `floats`."""

    def __init__(self, whole: str, floats: str = "") -> None:
        self._parts: dict[str, list[np.ndarray[Any, Any]]] = {
            **{name: [np.zeros(0, dtype=np.int64)] for name in whole.split()},
            **{name: [np.zeros(0)] for name in floats.split()},
        }
        self.length = 0

    def add(self, **columns: Any) -> Ints:
        """Append rows (scalars are repeated); returns their positions."""
        length = max(len(np.atleast_1d(c)) for c in columns.values() if np.ndim(c))
        for name, parts in self._parts.items():
            parts.append(np.broadcast_to(np.asarray(columns[name]), (length,)))
        first, self.length = self.length, self.length + length
        return np.arange(first, self.length, dtype=np.int64)

    def table(self) -> Table:
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1.0 / (1.0 + np.exp(-x)), dtype=np.float64)


def _choose(rng: np.random.Generator, shares: tuple[float, ...], size: int) -> Ints:
    edges = np.cumsum(shares) / sum(shares)
    return np.searchsorted(edges, rng.random(size), side="right").clip(0, len(shares) - 1).astype(np.int64)


def _seats(rng: np.random.Generator, segment: Ints) -> Ints:
    typical = np.array([5.0, 14.0, 42.0])[segment]
    return np.maximum(2, np.round(typical * np.exp(0.45 * rng.standard_normal(len(segment))))).astype(np.int64)


def _accounts(months: Months, seed: int, chunk: int, index: Ints, first_month: int, last_month: int) -> Table:
    """Lasting traits. The chunk's accounts become customers up to `last_month`; those of a later cohort in `first_month`."""
    size = len(index)
    rng = stream(seed, "traits", chunk)
    segment = _choose(rng, SEGMENT_SHARES, size)
    anchor = rng.integers(0, 28, size) * DAY + rng.integers(7 * 3600, 17 * 3600, size)
    if first_month == 0:
        span = last_month + 1
        growth = np.cumsum(1.0 + 0.02 * np.arange(span))
        late = np.searchsorted(growth / growth[-1], rng.random(size), side="right").clip(0, span - 1)
        early = -1 - np.floor(40.0 * rng.random(size) ** 1.3).astype(np.int64)
        joined = np.where(rng.random(size) < ALREADY_CUSTOMERS, early, late).astype(np.int64)
    else:
        joined = np.full(size, first_month, dtype=np.int64)
    prospect = (rng.random(size) < PROSPECTS) & (joined >= 0)
    trial = ((rng.random(size) < TRIALS) & (joined >= 0)) | (prospect & (rng.random(size) < 0.5))
    warm_up = rng.integers(1, 14, size) * DAY + rng.integers(0, DAY, size) + np.where(trial, TRIAL_DAYS * DAY, 0)
    if first_month == 0:
        # All accounts of the history are created before its end, though some become customers in the month after.
        unseen = (joined == last_month) & (anchor >= warm_up)
        joined = np.where(unseen & (last_month > 0), last_month - 1, joined)
    elif first_month == last_month:
        # The accounts that the history left out of its last arrivals: created after its end.
        trial &= anchor > 15 * DAY
        warm_up = np.minimum(np.where(trial, warm_up, warm_up % (13 * DAY)), anchor)
    started = months.begin(joined) + anchor
    first_touch = np.where(trial, started - TRIAL_DAYS * DAY, started)
    created = started - warm_up
    employees = np.round(np.array([22.0, 240.0, 2600.0])[segment] * np.exp(0.6 * rng.standard_normal(size)))
    return {
        "segment": segment,
        "anchor": anchor,
        "joined": joined,
        "prospect": prospect,
        "trial": trial,
        "customer": ~prospect | trial,
        "started": started,
        "first_touch": first_touch,
        "created": created,
        "employees": np.maximum(2, employees).astype(np.int64),
        "industry": rng.integers(0, 12, size),
        "country": _choose(rng, (30, 12, 12, 8, 6, 5, 5, 4, 4, 4, 3, 3, 2, 2), size),
        "yearly": rng.random(size) < np.array([0.25, 0.5, 0.8])[segment],
        "discount": 0.25 * rng.random(size),
        "taste": rng.integers(0, 4, size),
        "fit": 0.8 * rng.standard_normal(size),
        "turnover": 0.12 * rng.random(size),
        "reach": rng.random(size),
    }


def _price_cents(discount: Floats, yearly: Bools, product: int, plan: Ints, seats: Ints, loyalty: Floats) -> Ints:
    """Monthly recurring revenue in cents."""
    price = np.array(SEAT_PRICES_USD[product])[plan] * (1.0 - discount) * np.where(yearly, YEARLY_FACTOR, 1.0)
    return np.round(price * seats * loyalty * 100.0).astype(np.int64)


class _Simulation:
    """The state of the chunk between two months, and the rows collected so far."""

    def __init__(self, world: World, events_scale: float) -> None:
        self.world, self.events_scale = world, events_scale
        a, n = world.accounts, world.size
        rng = stream(world.seed, "state", world.chunk)
        self.plan = np.minimum(3, a["segment"] + (rng.random(n) < 0.35)).astype(np.int64)
        self.seats = _seats(rng, a["segment"])
        self.mood = 0.6 * rng.standard_normal(n) + 0.3 * a["fit"]
        self.drive = 0.5 * rng.standard_normal(n)
        self.declining = np.zeros(n, dtype=bool)
        self.broken_card = np.zeros(n, dtype=bool)
        self.paying = np.zeros(n, dtype=bool)
        self.left_month = np.full(n, 10_000, dtype=np.int64)
        self.since = a["joined"].copy()
        self.loyalty = np.ones(n)
        self.sub_no = np.zeros(n, dtype=np.int64)
        self.phase_no = np.zeros((2, n), dtype=np.int64)
        self.current = np.full((2, n), -1, dtype=np.int64)
        self.mrr = np.zeros((2, n), dtype=np.int64)
        self.extra_seats = np.zeros(n, dtype=np.int64)
        self.history = [np.full(n, np.nan) for _ in range(4)]
        self.seat_use = np.full(n, 0.6)
        self.failures = [np.zeros(n), np.zeros(n)]
        self.champion_gone = np.full(n, NOBODY_LEFT, dtype=np.int64)
        self.next_contact = np.zeros(n, dtype=np.int64)
        self.champion_row = np.full(n, -1, dtype=np.int64)
        self.nps = np.full(n, np.nan)
        self.nps_month = np.full(n, -10_000, dtype=np.int64)
        self.recent_tickets: list[tuple[Ints, Ints, Ints]] = []
        self.phases = _Rows("account product number subscription start term_end plan yearly seats cents trial")
        self.invoices = _Rows("account month created due paid cents attempts voided written_off")
        self.tickets = _Rows("account month ordinal opened replied solved priority csat rated reopens tone")
        self.surveys = _Rows("account month answered score user")
        self.contacts = _Rows("account ordinal role created left unsubscribed")
        self.engagements = _Rows("account month ordinal at channel inbound contact topic")
        self.hazards = _Rows("account month left", "hazard noise " + " ".join(hazard.DRIVERS))
        self.departures = _Rows("account month at reason driver", "hazard")
        self.ends: list[tuple[Ints, Ints, int | Ints]] = []
        self.contact_ends: list[tuple[Ints, Ints]] = []

    def rng(self, purpose: str, month: int) -> np.random.Generator:
        return stream(self.world.seed, purpose, self.world.chunk, month)

    def _open(self, product: int, who: Ints, at: Ints, *, trial: bool = False, term_months: Ints | None = None) -> None:
        """Start a phase at time `at`; `term_months` is the month in which a yearly term ends."""
        if not len(who):
            return
        a, months = self.world.accounts, self.world.months
        seats = self.seats[who] if product == CORE else self.extra_seats[who]
        cents = np.zeros(len(who), dtype=np.int64)
        if not trial:
            cents = _price_cents(
                a["discount"][who], a["yearly"][who], product, self.plan[who], seats, self.loyalty[who]
            )
        term = at + TRIAL_DAYS * DAY if trial else np.full(len(who), NEVER)
        if term_months is not None:
            term = np.where(a["yearly"][who], months.begin(term_months) + a["anchor"][who], NEVER)
        rows = self.phases.add(
            account=who,
            product=product,
            number=self.phase_no[product, who],
            subscription=self.sub_no[who],
            start=at,
            term_end=term,
            plan=self.plan[who],
            yearly=a["yearly"][who] & (not trial),
            seats=seats,
            cents=cents,
            trial=trial,
        )
        self.current[product, who] = rows
        self.phase_no[product, who] += 1
        self.mrr[product, who] = cents

    def _close(self, product: int, who: Ints, at: Ints, reason: int | Ints) -> None:
        rows = self.current[product, who]
        there = rows >= 0
        chosen = reason if isinstance(reason, int) else reason[there]
        self.ends.append((rows[there], at[there], chosen))
        self.current[product, who] = -1
        self.mrr[product, who] = 0

    def _next_renewal(self, who: Ints, month: int) -> Ints:
        """The month, after this one, in which the yearly term of each account ends."""
        since = self.since[who]
        return month + 12 - (month - since) % 12

    def begin(self) -> None:
        """Customers of before the company's first month, and everyone's first contacts."""
        world, a = self.world, self.world.accounts
        rng = self.rng("before", 0)
        early = np.flatnonzero((a["joined"] < 0) & ~a["prospect"])
        age = -a["joined"][early]
        renewed = a["yearly"][early] & (age > 12)
        old = early[renewed]
        self._open(CORE, old, a["started"][old], term_months=a["joined"][old] + 12)
        last = a["joined"] + 12 * np.maximum(0, (-a["joined"] - 1) // 12)
        at = world.months.begin(last) + a["anchor"]
        self._close(CORE, old, at[old], RENEWAL)
        self.loyalty[old] = RENEWAL_UPLIFT
        self._open(CORE, early, np.where(renewed, at[early], a["started"][early]), term_months=last[early] + 12)
        add_on = early[rng.random(len(early)) < INSIGHTS_AT_START]
        self.extra_seats[add_on] = np.maximum(1, np.round(0.5 * self.seats[add_on])).astype(np.int64)
        self._open(INSIGHTS, add_on, at[add_on], term_months=last[add_on] + 12)
        self.paying[early] = True
        self._people()

    def _people(self) -> None:
        a, n = self.world.accounts, self.world.size
        rng = self.rng("people", 0)
        extra = rng.poisson(np.array([0.6, 2.0, 5.0])[a["segment"]]).clip(0, 20)
        count = 4 + extra - ((a["segment"] == 0) & (rng.random(n) < 0.6))
        who = np.repeat(np.arange(n), count)
        ordinal = np.arange(len(who)) - np.repeat(np.cumsum(count) - count, count)
        created = a["created"][who] + np.where(
            ordinal == 0, rng.integers(60, 3600, len(who)), (rng.random(len(who)) * 40 * DAY).astype(np.int64)
        )
        stays = rng.exponential(100.0 * 30 * DAY, len(who)).astype(np.int64)
        left = np.where(ordinal == 0, NEVER, created + 30 * DAY + stays)
        order = np.array([0, 1, 3, 2, 4])
        role = order[np.minimum(ordinal, 4)]
        rows = self.contacts.add(
            account=who,
            ordinal=ordinal,
            role=role,
            created=created,
            left=left,
            unsubscribed=rng.random(len(who)) < 0.08,
        )
        self.champion_row[who[ordinal == 0]] = rows[ordinal == 0]
        self.next_contact[:] = count

    def month(self, m: int) -> None:
        """Everything that happens in month `m`."""
        world, a = self.world, self.world.accounts
        begin, end = world.months.begin(m), world.months.begin(m + 1)
        at = begin + a["anchor"]
        before = self.paying.copy()
        noise = hazard.NOISE_SD * self.rng("noise", m).standard_normal(world.size)
        leaving = self._departures(m, at, noise, before)
        began = np.full(world.size, begin)
        until = np.where(leaving, at, end)
        fresh = self._arrivals(m, at)
        trying = (a["joined"] == m) & a["trial"]
        began = np.where(fresh, np.maximum(begin, np.where(trying, a["first_touch"], at)), began)
        prospects = trying & a["prospect"]
        began = np.where(prospects, np.maximum(begin, a["first_touch"]), began)
        until = np.where(prospects, at, until)
        due = self._changes(m, at, self.paying & ~fresh)
        here = before | fresh | prospects
        self._use(m, here, began, until, before & ~leaving)
        self._payments(m, at, fresh, due)
        self._support(m, here & ~prospects, began, until)
        self._champions(m, self.paying, begin, end)
        self._surveys(m, self.paying & ~fresh, begin, end)
        self._touches(m, here, began, until)
        self._moods(m)

    def _departures(self, m: int, at: Ints, noise: Floats, before: Bools) -> Bools:
        world, a = self.world, self.world.accounts
        past = np.stack(self.history[:3])
        usual = np.nansum(past, axis=0) / np.maximum(1, np.sum(~np.isnan(past), axis=0))
        recent = np.nan_to_num(self.history[3])
        known = ~np.isnan(self.history[3]) & ~np.isnan(self.history[2])
        unresolved = np.zeros(world.size)
        for who, opened, solved in self.recent_tickets:
            still = (solved >= world.months.begin(m)) & (opened < world.months.begin(m) - 3 * DAY)
            unresolved += np.bincount(who[still], minlength=world.size)
        renews = a["yearly"] & ((m - self.since) % 12 == 0)
        lost = self.champion_gone >= m - 5
        seen = hazard.Observed(
            recent=np.where(known, recent, 0.0),
            usual=np.where(known, usual, 0.0),
            failed=self.failures[0] + 0.5 * self.failures[1],
            unresolved=unresolved,
            lost_champion=np.where(lost, 1.0, 0.0),
            seat_use=self.seat_use,
            tenure=(m - self.since).astype(np.float64),
            nps=np.where(self.nps_month >= m - 6, self.nps, np.nan),
            renewal=renews.astype(np.float64),
            bound=(a["yearly"] & ~renews).astype(np.float64),
        )
        parts = hazard.contributions(seen)
        chance = hazard.probability(parts, noise)
        rng = self.rng("leave", m)
        draw, other = rng.random(world.size), rng.random(world.size)
        leaves = before & (draw < chance)
        done = before & ~leaves & (other < MONTHLY_COMPLETED)
        moved = before & ~leaves & ~done & (other < MONTHLY_COMPLETED + MONTHLY_MIGRATED)
        main = hazard.main_driver(parts, noise)
        risk = np.flatnonzero(before)
        if len(risk):
            self.hazards.add(
                account=risk,
                month=m,
                hazard=chance[risk],
                noise=noise[risk],
                left=leaves[risk],
                **{name: part[risk] for name, part in parts.items()},
            )
        gone = np.flatnonzero(leaves | done | moved)
        if len(gone):
            unpaid = main == hazard.DRIVERS.index("failed_payments")
            reason = np.where(leaves & unpaid, PAYMENT_FAILED, CANCELED)
            reason = np.where(done, COMPLETED, np.where(moved, MIGRATED, reason))
            self.departures.add(
                account=gone, month=m, at=at[gone], reason=reason[gone], driver=main[gone], hazard=chance[gone]
            )
            for product in (CORE, INSIGHTS):
                self._close(product, gone, at[gone], reason[gone])
            self.paying[gone] = False
            self.extra_seats[gone] = 0
            self.left_month[gone] = np.where(leaves[gone], m, 10_000)
        return np.asarray(leaves | done | moved, dtype=np.bool_)

    def _arrivals(self, m: int, at: Ints) -> Bools:
        """New and returning customers; returns who started to pay in the month."""
        a = self.world.accounts
        tries = np.flatnonzero((a["joined"] == m) & a["trial"])
        if len(tries):
            self._open(CORE, tries, a["first_touch"][tries], trial=True)
            self._close(CORE, tries, at[tries], np.where(a["prospect"][tries], CANCELED, PLAN_CHANGE))
        draw = self.rng("arrive", m).random((2, self.world.size))
        new = (a["joined"] == m) & ~a["prospect"]
        back = (self.left_month < m - 1) & (draw[0] < MONTHLY_RETURN)
        self.sub_no[back] += 1
        self.since[back] = m
        self.mood[back] += 0.8
        self.declining[back] = False
        self.broken_card[back] = False
        self.champion_gone[back] = np.where(self.champion_gone[back] > NOBODY_LEFT, m - 6, NOBODY_LEFT)
        self.seat_use[back] = 0.6
        self.left_month[back] = 10_000
        for past in self.history:
            past[back] = np.nan
        fresh: Bools = new | back
        who = np.flatnonzero(fresh)
        if len(who):
            self._open(CORE, who, at[who], term_months=np.full(len(who), m + 12))
            add_on = who[draw[1][who] < INSIGHTS_AT_START]
            self.extra_seats[add_on] = np.maximum(1, np.round(0.5 * self.seats[add_on])).astype(np.int64)
            self._open(INSIGHTS, add_on, at[add_on], term_months=np.full(len(add_on), m + 12))
        self.paying |= fresh
        return fresh

    def _changes(self, m: int, at: Ints, settled: Bools) -> Ints:
        """Renewals, changes of plan and seats, the second product; returns what yearly contracts owe for them (cents)."""
        world, a = self.world, self.world.accounts
        rng = self.rng("changes", m)
        draw, amount = rng.random((5, world.size)), rng.random(world.size)
        yearly = a["yearly"]
        renews = settled & yearly & ((m - self.since) % 12 == 0)
        free = settled & (~yearly | renews)
        happy = self.mood + 0.6 * (self.seat_use - 0.6)
        was = self.mrr.sum(axis=0)

        grow = settled & (draw[0] < 0.03 * np.exp(0.5 * happy).clip(0.2, 3.0))
        shrink = free & ~grow & (draw[1] < 0.012 * np.exp(-0.7 * happy).clip(0.3, 6.0)) & (self.seats > 3)
        up = settled & ~grow & ~shrink & (self.plan < 3) & (draw[2] < 0.006 * np.exp(0.5 * happy).clip(0.2, 3.0))
        down = free & ~grow & ~shrink & ~up & (self.plan > 0)
        down &= draw[2] > 1.0 - 0.004 * np.exp(-0.6 * happy).clip(0.3, 5.0)
        factor = np.where(grow, 1.05 + 0.4 * amount, np.where(shrink, 0.55 + 0.35 * amount, 1.0))
        wanted = np.where(grow, np.ceil(self.seats * factor), np.floor(self.seats * factor))
        self.seats = np.where(grow | shrink, np.maximum(2, wanted), self.seats).astype(np.int64)
        self.plan = self.plan + up - down
        self.loyalty = np.where(renews, self.loyalty * RENEWAL_UPLIFT, self.loyalty)

        changed = np.flatnonzero(renews | grow | shrink | up | down)
        reason = np.where(renews, RENEWAL, np.where(up | down, PLAN_CHANGE, SEAT_CHANGE))
        self._close(CORE, changed, at[changed], reason[changed])
        self._open(CORE, changed, at[changed], term_months=self._next_renewal(changed, m))

        owns = self.current[INSIGHTS] >= 0
        drops = free & owns & (draw[3] < 0.012 * np.exp(-0.7 * self.mood).clip(0.3, 5.0))
        buys = settled & ~owns & (draw[4] < 0.008 * np.exp(0.5 * self.mood).clip(0.2, 3.0))
        keeps = np.flatnonzero(owns & ~drops & (renews | up | down))
        self._close(INSIGHTS, keeps, at[keeps], np.where(renews[keeps], RENEWAL, PLAN_CHANGE))
        self._open(INSIGHTS, keeps, at[keeps], term_months=self._next_renewal(keeps, m))
        lost = np.flatnonzero(drops)
        self._close(INSIGHTS, lost, at[lost], CANCELED)
        self.extra_seats[lost] = 0
        bought = np.flatnonzero(buys)
        self.extra_seats[bought] = np.maximum(1, np.round(0.5 * self.seats[bought])).astype(np.int64)
        self._open(INSIGHTS, bought, at[bought], term_months=self._next_renewal(bought, m))

        left = self._next_renewal(np.arange(world.size), m) - m
        more = np.maximum(0, self.mrr.sum(axis=0) - was) * left
        return np.where(yearly & settled & ~renews, more, 0).astype(np.int64)

    def _use(self, m: int, here: Bools, began: Ints, until: Ints, whole: Bools) -> None:
        world, a = self.world, self.world.accounts
        begin, work = int(world.months.begin(m)), world.months.work(m)
        first = np.where(began > begin, (began - begin) // DAY + 1, 0).clip(0, len(work) - 1)
        last = ((until - begin) // DAY).clip(0, len(work) - 1)
        last = np.maximum(first, last)
        share = np.where(here, (work[last] - work[first]) / STANDARD_MONTH, 0.0)
        rng = self.rng("use", m)
        eager = _sigmoid(0.55 + 0.9 * self.drive + 0.25 * a["fit"])
        ramp = 1.0 - 0.45 * np.exp(-np.maximum(0, m - self.since) / 1.5)
        # Mostly the same people come each month, so the number of users varies less than a binomial one would.
        users = np.floor(self.seats * (eager * ramp).clip(0.0, 0.97) + rng.random(world.size))
        users = np.where(share > 0, np.maximum(1, np.round(users * np.minimum(1.0, 0.4 + share))), 0).astype(np.int64)
        pace = EVENTS_PER_ACTIVE_USER * self.events_scale * np.exp(0.5 * self.drive)
        count = rng.poisson(users * pace * share).astype(np.int64)
        appetite = _sigmoid(0.6 * self.drive + 1.5 * a["reach"] - 0.8) * ramp
        breadth = np.round(3 + 27 * appetite).astype(np.int64).clip(2, 30)
        world.usage.append(
            Usage(
                count=count,
                users=users,
                breadth=breadth,
                insights=self.current[INSIGHTS] >= 0,
                first_day=first,
                last_day=last,
                shift=np.floor((m + 60) * a["turnover"]).astype(np.int64),
            )
        )
        level = np.where((share > 0.3) & here, count / np.maximum(share, 0.3), np.nan)
        self.history = [*self.history[1:], level]
        measured = here & (share > 0.3) & whole | ((share > 0.5) & here)
        self.seat_use = np.where(measured, users / np.maximum(1, self.seats), self.seat_use)

    def _payments(self, m: int, at: Ints, fresh: Bools, due: Ints) -> None:
        world, a = self.world, self.world.accounts
        rng = self.rng("payments", m)
        draw = rng.random((5, world.size))
        renews = fresh | ((m - self.since) % 12 == 0)
        total = self.mrr.sum(axis=0)
        amount = np.where(a["yearly"], np.where(renews, 12 * total, due), total)
        amount = np.where(self.paying, amount, 0)
        self.broken_card = np.where(self.broken_card, draw[0] > CARD_MENDED, draw[0] < CARD_BREAKS)
        billed = amount > 0
        fails = billed & (self.broken_card | (draw[1] < 0.006))
        attempts = np.where(fails, 2 + (draw[2] * 3).astype(np.int64), 1)
        recovers = draw[3] < 0.72
        transfer = a["yearly"] & (a["segment"] > 0)
        slow = np.where(transfer, (3 + 40 * draw[4] ** 1.5) * DAY, 60 + 3000 * draw[4])
        retried = ((attempts - 1) * PAYMENT_RETRY_DAYS + 20 * draw[4] * (draw[2] > 0.6)) * DAY + 600
        paid = np.where(fails, np.where(recovers, at + retried, NEVER), at + slow).astype(np.int64)
        void = billed & ~fails & (draw[1] > 0.997)
        who = np.flatnonzero(billed)
        if len(who):
            self.invoices.add(
                account=who,
                month=m,
                created=at[who],
                due=at[who] + np.where(transfer[who], 30, 7) * DAY,
                paid=np.where(void, NEVER, paid)[who],
                cents=amount[who],
                attempts=attempts[who],
                voided=np.where(void, at + 2 * DAY, NEVER)[who],
                written_off=np.where(fails & ~recovers, at + UNCOLLECTIBLE_DAYS * DAY, NEVER)[who],
            )
        self.failures = [np.where(fails, np.minimum(1.0, (attempts - 1) / 2.0), 0.0), self.failures[0]]

    def _support(self, m: int, here: Bools, began: Ints, until: Ints) -> None:
        world = self.world
        rng = self.rng("tickets", m)
        rate = (0.18 + 0.07 * np.sqrt(self.seats)) * np.exp(-0.45 * self.mood).clip(0.3, 5.0)
        window = np.where(here, (until - began) / (30.0 * DAY), 0.0)
        count = rng.poisson(rate * window).clip(0, 63)
        who = np.repeat(np.arange(world.size), count)
        size = len(who)
        draws = rng.random((7, size))
        noise = rng.standard_normal((3, size))
        mood = self.mood[who]
        opened = began[who] + (draws[0] * (until - began)[who]).astype(np.int64)
        priority = np.searchsorted(np.array([0.25, 0.75, 0.93]), draws[1] + 0.06 * np.maximum(0, -mood)).astype(
            np.int64
        )
        replied = opened + (3600 * np.array([9.0, 5.0, 2.0, 0.7])[priority] * np.exp(0.8 * noise[0])).astype(np.int64)
        days = np.array(RESOLUTION_DAYS)[priority] * np.exp(0.9 * noise[1] - 0.25 * mood)
        solved = replied + 600 + (days * DAY).astype(np.int64)
        solved = np.where(draws[2] < TICKET_STAYS_OPEN * np.exp(-0.5 * mood).clip(0.3, 4.0), NEVER, solved)
        score = np.round(4.1 + 0.9 * mood - 0.25 * np.log1p(days) + 0.7 * noise[2]).clip(1, 5).astype(np.int64)
        rated = (draws[3] < 0.45) & (solved < NEVER)
        if size:
            self.tickets.add(
                account=who,
                month=m,
                ordinal=np.arange(size) - np.repeat(np.cumsum(count) - count, count),
                opened=opened,
                replied=replied,
                solved=solved,
                priority=priority,
                csat=np.where(rated, score, 0),
                rated=np.where(rated, solved + (draws[4] * 2 * DAY).astype(np.int64), NEVER),
                reopens=np.where(solved < NEVER, (draws[5] < 0.06 * np.exp(-0.4 * mood)).astype(np.int64), 0),
                tone=np.where(mood + 0.5 * noise[2] > 0.3, 0, np.where(mood + 0.5 * noise[2] > -0.7, 1, 2)),
            )
        self.recent_tickets = [*self.recent_tickets[-3:], (who, opened, solved)]

    def _champions(self, m: int, here: Bools, begin: Ints, end: Ints) -> None:
        world = self.world
        rng = self.rng("champions", m)
        draw, when = rng.random((2, world.size)), begin + rng.integers(0, int(end - begin), world.size)
        gone = self.champion_gone > NOBODY_LEFT
        leaves = here & ~gone & (draw[0] < CHAMPION_LEAVES * np.exp(-0.2 * self.mood).clip(0.5, 2.0))
        who = np.flatnonzero(leaves)
        self.contact_ends.append((self.champion_row[who], when[who]))
        self.champion_gone[who] = m
        found = here & gone & ((draw[1] < CHAMPION_REPLACED) | (self.champion_gone < m - 5))
        new = np.flatnonzero(found)
        if len(new):
            rows = self.contacts.add(
                account=new,
                ordinal=self.next_contact[new],
                role=0,
                created=when[new],
                left=NEVER,
                unsubscribed=False,
            )
            self.champion_row[new] = rows
            self.next_contact[new] += 1
            self.champion_gone[new] = NOBODY_LEFT

    def _surveys(self, m: int, here: Bools, begin: Ints, end: Ints) -> None:
        world = self.world
        rng = self.rng("surveys", m)
        draw, noise = rng.random((2, world.size)), rng.standard_normal(world.size)
        when = begin + rng.integers(0, int(end - begin), world.size)
        asked = here & ((world.index + m) % 3 == 0)
        answers = asked & (draw[0] < 0.38)
        score = np.round(7.6 + 1.8 * self.mood + 1.1 * noise).clip(0, 10)
        who = np.flatnonzero(answers)
        if len(who):
            use = world.usage[m]
            user = use.shift + np.floor(self.rng("answers", m).random(world.size) * np.maximum(1, use.users)).astype(
                np.int64
            )
            self.surveys.add(
                account=who, month=m, answered=when[who], score=score[who].astype(np.int64), user=user[who]
            )
        self.nps = np.where(answers, score, self.nps)
        self.nps_month = np.where(answers, m, self.nps_month)

    def _touches(self, m: int, here: Bools, began: Ints, until: Ints) -> None:
        world, a = self.world, self.world.accounts
        rng = self.rng("touches", m)
        rate = np.array([0.7, 1.4, 2.6])[a["segment"]] * np.where(here, (until - began) / (30.0 * DAY), 0.0)
        count = rng.poisson(rate).clip(0, 63)
        who = np.repeat(np.arange(world.size), count)
        size = len(who)
        if size:
            self.engagements.add(
                account=who,
                month=m,
                ordinal=np.arange(size) - np.repeat(np.cumsum(count) - count, count),
                at=began[who] + (rng.random(size) * (until - began)[who]).astype(np.int64),
                channel=_choose(rng, (0.6, 0.16, 0.14, 0.1), size),
                inbound=rng.random(size) < 0.4,
                contact=rng.integers(0, 3, size),
                topic=rng.integers(0, 8, size),
            )

    def _moods(self, m: int) -> None:
        world, a = self.world, self.world.accounts
        rng = self.rng("moods", m)
        draw, noise = rng.random((2, world.size)), rng.standard_normal((2, world.size))
        self.declining = np.where(
            self.declining, draw[0] > DECLINE_ENDS, draw[1] < DECLINE_STARTS * np.exp(-0.5 * self.mood).clip(0.4, 4.0)
        )
        self.mood = 0.91 * self.mood + 0.05 * a["fit"] + 0.3 * noise[0] - 0.2 * self.declining
        pull = 0.1 * (0.6 * a["fit"] + 0.35 * self.mood + 0.1 - self.drive)
        self.drive = (self.drive + pull + 0.13 * noise[1] - 0.32 * self.declining).clip(-4.0, 2.0)

    def finish(self) -> None:
        """Close the books: write the ends into the rows they belong to."""
        world = self.world
        world.phases = self.phases.table()
        world.phases["end"] = np.full(self.phases.length, NEVER)
        world.phases["reason"] = np.zeros(self.phases.length, dtype=np.int64)
        for rows, at, reason in self.ends:
            world.phases["end"][rows] = at
            world.phases["reason"][rows] = reason
        world.contacts = self.contacts.table()
        for rows, at in self.contact_ends:
            world.contacts["left"][rows] = at
        world.invoices, world.tickets = self.invoices.table(), self.tickets.table()
        world.surveys, world.engagements = self.surveys.table(), self.engagements.table()
        world.hazards, world.departures = self.hazards.table(), self.departures.table()


def simulate(
    months: Months,
    *,
    seed: int,
    chunk: int,
    index: Ints,
    first_month: int,
    last_arrival: int,
    horizon: int,
    events_scale: float,
) -> World:
    """Simulate the accounts `index` (their numbers in the whole company) up to and including month `horizon`.

    `first_month` is 0 for the accounts of the history, which arrive up to month `last_arrival`, and the month of
    arrival for a later cohort. `events_scale` is 1 at the default density of events.
    """
    accounts = _accounts(months, seed, chunk, index, first_month, last_arrival)
    world = World(months=months, seed=seed, chunk=chunk, index=index, horizon=horizon, accounts=accounts)
    simulation = _Simulation(world, events_scale)
    simulation.begin()
    idle = np.zeros(len(index), dtype=np.int64)
    for _ in range(first_month):
        world.usage.append(Usage(idle, idle, idle, idle > 0, idle, idle, idle))
    for month in range(first_month, horizon + 1):
        simulation.month(month)
    simulation.finish()
    return world
