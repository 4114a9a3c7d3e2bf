"""Texts that stand for nothing: what systems and people write where they have no value.

Lives here: the one list that loading, matching of accounts and model tables share. Must not live here: what follows from a
placeholder (each step decides: NULL, quarantine, no match).
"""

from __future__ import annotations

NULL_WORDS = (
    "",
    "na",
    "n/a",
    "#n/a",
    "nan",
    "null",
    "nil",
    "(null)",
    "<null>",
    "<na>",
    "nat",
    "\\n",
    "?",
    "-",
    "--",
    "#value!",
    "#div/0!",
)
"""How programs write a missing value, in lower case. `\\n` is a backslash and an n: PostgreSQL's and MySQL's mark in text files."""

NULL_IDS = (
    *NULL_WORDS,
    "none",
    "unknown",
    "undefined",
    "not available",
    "not applicable",
    "not set",
    "tbd",
)
"""`NULL_WORDS` and what programs and people write in place of an id that is missing, in lower case: `None` is Python's word,
`undefined` JavaScript's. No `0` and no `test`, which a source may have given out as ids."""

PLACEHOLDERS = (
    *NULL_IDS,
    "not provided",
    "not specified",
    "not given",
    "not known",
    "no name",
    "no company",
    "no domain",
    "no website",
    "n.a.",
    "n.a",
    "nobody",
    "anonymous",
    "unnamed",
    "unbekannt",
    "keine",
    "inconnu",
    "desconocido",
    "onbekend",
    "tba",
    "test",
    "xx",
    "xxx",
    "xxxx",
    ".",
    "0",
)
"""`NULL_IDS` and what people type where a form insists on a value, in lower case. As an answer to a question such a word may be
meant (`none`); as a name, a domain or an id it never identifies anything."""
