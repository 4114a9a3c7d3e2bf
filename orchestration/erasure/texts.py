"""Identifiers within text that programs wrote: logs, messages, samples, pages, and the files that they lie in.

Lives here: which words are looked for, finding them in text and bytes, and what is put in their place. Must not live here: which
files are looked through (`files.py`), columns that say what they hold (`tables.py`).

In such text nothing says what a word means. So a word is looked for only where it can be nothing else: it has at least
`SHORTEST` characters and is no word of the program itself (of dbt's manifest: `orders` may be an account's id, and is a table).
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Collection, Iterable
from functools import cached_property
from pathlib import Path
from urllib.parse import quote

from orchestration.erasure.subject import Subject

SHORTEST = 5
ERASED = "[erased]"
"""What stands where a word stood. A number becomes 0, so that JSON stays JSON."""
_TOKEN = re.compile(r"[\w.@+%-]+")
_TOKEN_BYTES = re.compile(rb"[0-9A-Za-z_.@+%\x80-\xff-]+")
_TRIMMED = ".-+%"
_LONG, _MOST_IN_PAGES = 10, 50
_READ_AT_ONCE, _OVERLAP = 1 << 26, 1 << 10


class Words:
    """The words of a subject, in the spellings that programs give them."""

    def __init__(self, subject: Subject, vocabulary: Collection[str] = ()) -> None:
        known = {word.lower() for word in vocabulary}
        ids = {one for one in subject.accounts if ":" not in one}
        ids |= {one for _, one in (*subject.records, *subject.people, *subject.keys)}
        self.names = _distinctive({*ids, *subject.addresses, *subject.names}, known)
        """What names the subject itself, and may be left nowhere."""
        every = self.names | _distinctive(subject.row_ids, known)
        self._tokens = frozenset(word.lower() for word in every if _TOKEN.fullmatch(word))
        self._token_bytes = frozenset(word.encode() for word in self._tokens)
        odd = [word for word in every if not _TOKEN.fullmatch(word)]
        self._phrases = sorted({spelt for word in odd for spelt in _spellings(word)}, key=len, reverse=True)

    def is_in(self, text: str) -> bool:
        """Whether `text` holds any of them."""
        return any(self._is_hit(match[0]) for match in _TOKEN.finditer(text)) or any(p in text for p in self._phrases)

    def is_in_bytes(self, content: bytes) -> bool:
        """Whether `content` holds any of them as UTF-8, or one that names the subject as UTF-16 or in hexadecimal digits."""
        tokens = set(_TOKEN_BYTES.findall(content.lower()))
        if tokens & self._token_bytes or {token.strip(_TRIMMED.encode()) for token in tokens} & self._token_bytes:
            return True
        return any(phrase.encode() in content for phrase in self._phrases) or any(
            form in content for form in self._encoded
        )

    def is_in_pages(self, path: Path) -> bool:
        """Whether the pages of a DuckDB file hold a name that is long enough not to be there by chance, as far as they are not
        compressed."""
        names = [name.encode() for name in sorted(self.names) if len(name) >= _LONG][:_MOST_IN_PAGES]
        before = b""
        with path.open("rb") as file:
            while names and (read := file.read(_READ_AT_ONCE)):
                content = before + read
                if any(name in content for name in names):
                    return True
                before = content[-_OVERLAP:]
        return False

    def without(self, text: str) -> str:
        """`text` with something else in their place."""
        found = _TOKEN.sub(lambda match: self._replaced(match[0]), text)
        for phrase in self._phrases:
            if phrase in found:
                found = found.replace(phrase, ERASED)
        return found

    @cached_property
    def _encoded(self) -> tuple[bytes, ...]:
        """The names as bytes that are no UTF-8: written by other systems, or by a database."""
        encodings: tuple[Callable[[str], bytes], ...] = (
            lambda word: word.encode("utf-16-le"),
            lambda word: word.encode("utf-16-be"),
            lambda word: word.encode().hex().encode(),
            lambda word: word.encode().hex().upper().encode(),
        )
        return tuple(encode(word) for word in sorted(self.names) for encode in encodings)

    def _is_hit(self, token: str) -> bool:
        lower = token.lower()
        return lower in self._tokens or lower.strip(_TRIMMED) in self._tokens

    def _replaced(self, token: str) -> str:
        if not self._is_hit(token):
            return token
        kept = token.lower() if token.lower() in self._tokens else token.strip(_TRIMMED)
        return token.replace(token if kept == token.lower() else kept, "0" if kept.isdigit() else ERASED)


def tokens_of(text: str) -> set[str]:
    """The words of a text, such as a manifest's."""
    return set(_TOKEN.findall(text))


def _distinctive(words: Iterable[str], known: Collection[str]) -> frozenset[str]:
    return frozenset(word for word in words if len(word) >= SHORTEST and word.lower() not in known)


def _spellings(word: str) -> set[str]:
    """A phrase as text, JSON, HTML and URLs have it."""
    return {
        word,
        json.dumps(word)[1:-1],
        json.dumps(word, ensure_ascii=False)[1:-1],
        html.escape(word),
        html.escape(word, quote=False),
        quote(word),
    }
