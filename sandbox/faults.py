"""What goes wrong on the way from a vendor to us: planted on purpose, at the rates stated here.

Lives here: every rate, every kind of fault, and the choice of which rows are hit, a function of nothing but the row's
key. Must not live here: how a vendor's file is written. Broken rows are extra rows (a copy with an id of its own and one
broken value, a required one: without another, a row is loaded), so that the true history stays whole; the copies that a fault adds
are listed in the truth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from sandbox.randomness import Ints, Keys, uniform
from sandbox.timeline import DAY, moments

LATE_EVENT_RATE = 0.01
"""Share of product events that arrive one to nine days after they happened."""
DUPLICATE_EVENT_RATE = 0.004
"""Share of product events delivered twice under one id."""
BROKEN_EVENT_RATE = 0.0003
"""Broken events per event."""
LATE_ROW_RATE = 0.005
"""Share of invoices, tickets and engagements that are first delivered one to five days after they were created."""
DUPLICATE_ROW_RATE = 0.006
"""Share of other rows delivered twice; half of the copies come days later and carry the row's first version."""
BROKEN_ROW_RATE = 0.003
"""Broken rows per row, in every object but events and owners."""

DOMAIN_LINK_RATE = 0.02
"""Share of accounts whose other vendors know no CRM id and another name, only the domain."""
NAME_LINK_RATE = 0.01
"""Share of accounts whose other vendors know neither CRM id nor domain, only the name."""
UNMATCHED_RATE = 0.003
"""Share of accounts whose support organization cannot be matched at all."""
MERGED_RATE = 0.01
"""Share of accounts with a second CRM company that is merged into the first within the history."""
RENAMED_RATE = 0.02
"""Share of accounts whose CRM company changes its name within the history; as many again in the two years after."""
OWNER_CHANGE_RATE = 0.12
"""Share of accounts handed to another owner within the history; as many again in the two years after."""
FREE_MAIL_RATE = 0.015
"""Share of accounts whose CRM domain is that of a free mail provider."""

REDELIVERY_DAYS = 4
"""Days after its first delivery on which a row's first version is delivered again."""

IMPOSSIBLE_DATE = "2019-02-30"
JANUARY_1970 = "1970-01-18 10:20:30"
"""What becomes of seconds since 1970 that are read as milliseconds."""
FAR_EPOCH = 7_258_118_400 - 180 * DAY
"""A moment in the year 2199, in seconds since 1970."""
UNKNOWN_CRM_ID = "999"
UNKNOWN_HEX = "00000000deadbeef"


@dataclass(frozen=True)
class Broken:
    """A way to break a row: its kind, the reason by which the contract refuses it, and the values (SQL) put in."""

    kind: str
    reason: str
    values: Mapping[str, str] = field(default_factory=dict)


def null_key(column: str) -> Broken:
    return Broken("null_key", "null_key", {column: "null"})


def marks(keys: Keys, created: Ints, kinds: int, *, can_be_late: bool) -> dict[str, pa.Array]:
    """Which rows are hit.

    `_created` and `_visible` (created, and created for us), `_copy` (0 none, 1 the same row twice, 2 its first version
    again later) and `_broken` (0, or the number from 1 of the way in which a copy is broken).
    """
    late = np.zeros(len(keys), dtype=np.int64)
    if can_be_late:
        hit = uniform(keys, "late") < LATE_ROW_RATE
        late = np.where(hit, 1 + np.floor(5.0 * uniform(keys, "late by")), 0).astype(np.int64)
    twice = uniform(keys, "twice")
    copy = np.where(twice < DUPLICATE_ROW_RATE / 2, 1, np.where(twice < DUPLICATE_ROW_RATE, 2, 0))
    breaks = (uniform(keys, "breaks") < BROKEN_ROW_RATE) & (kinds > 0)
    which = 1 + np.floor(max(kinds, 1) * uniform(keys, "breaks how")).astype(np.int64)
    return {
        "_created": moments(created),
        "_visible": moments(created + late * DAY),
        "_copy": pa.array(copy.astype(np.int8)),
        "_broken": pa.array(np.where(breaks, which, 0).astype(np.int8)),
    }
