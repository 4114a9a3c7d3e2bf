"""Fields that a mapping in `tenure.yml` names beyond those a connector knows: what an account's administrator made.

Lives here: finding the names of columns in a mapping's expressions. Must not live here: what they mean (`mapping.py`), how a
vendor is asked for them (`hubspot.py`, `salesforce.py`).
"""

from __future__ import annotations

import re
from collections.abc import Collection

from core.source_settings import StreamConfig

_TEXT = re.compile(r"'(?:[^']|'')*'")
_NAME = re.compile(r'"([^"]+)"|\b([A-Za-z_]\w*)\b(?!\s*\()')
_SQL = re.compile(
    "all|and|any|as|between|bigint|boolean|by|case|cast|date|days?|decimal|desc|distinct|double|else|end|escape|exists|false|from"
    "|hours?|ilike|in|integer|interval|is|like|minutes?|months?|not|null|or|over|partition|select|similar|then|timestamp|timestamptz"
    "|to|true|try_cast|using|varchar|when|where|years?",
    re.I,
)


def named_fields(config: StreamConfig, known: Collection[str]) -> tuple[str, ...]:
    """Names in the stream's mapping that are neither `known` nor words of SQL. A name that is one is put in double quotes."""
    found: dict[str, None] = {}
    for mapping in config.columns.values():
        for quoted, bare in _NAME.findall(_TEXT.sub("''", mapping.sql)):
            if quoted or not _SQL.fullmatch(bare):
                found[quoted or bare] = None
    return tuple(name for name in found if name not in known)
