"""Text from outside, made safe to show: names, messages and file contents that others wrote.

Lives here: which characters a terminal, a log or a page must not get from data. Must not live here: how anything looks.

A terminal acts on control characters (a name could clear the screen, rewrite an earlier line or set the clipboard), and on
characters that change the direction of text (an amount could read backwards); see Unicode Technical Report 36 and CVE-2021-42574.
"""

from __future__ import annotations

import re

_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"
_DIRECTIONS = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_UNSEEN = "\u200b\u2028\u2029\u2060-\u2064\u206a-\u206f\ufeff\U000e0000-\U000e007f"
_SURROGATES = "\ud800-\udfff"
UNSAFE = re.compile(f"[{_CONTROLS}{_DIRECTIONS}{_UNSEEN}{_SURROGATES}]")
"""Controls other than line feed and tab, marks of direction, unseen separators and tags, and halves of characters. Joiners stay:
scripts and emoji need them."""


def printable(text: str) -> str:
    """`text` with a replacement character where a character must not be shown."""
    return UNSAFE.sub("\ufffd", text.replace("\r\n", "\n"))


def json_safe(text: str) -> str:
    """A JSON document with the same characters written as escapes: it shows nothing and loses nothing."""
    return UNSAFE.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    units = match.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[n]:02x}{units[n + 1]:02x}" for n in range(0, len(units), 2))
