"""Secrets struck out of what other systems say.

Lives here: the one function for it. Must not live here: where secrets come from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import quote, quote_plus

MASK = "***"
_SHORTEST = 4
"""Shorter secrets would strike out ordinary words."""
_LONGEST_TEXT = 500

Redact = Callable[[str], str]


def redactor(secrets: Sequence[str]) -> Redact:
    """A function that strikes `secrets`, also as they stand in URLs, out of a text, and cuts it to a length that fits a table."""
    forms = {
        form for secret in secrets if len(secret) >= _SHORTEST for form in (secret, quote(secret), quote_plus(secret))
    }
    longest_first = sorted(forms, key=len, reverse=True)

    def redact(text: str) -> str:
        for form in longest_first:
            text = text.replace(form, MASK)
        return text if len(text) <= _LONGEST_TEXT else text[: _LONGEST_TEXT - 1] + "…"

    return redact
