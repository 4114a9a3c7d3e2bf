"""Names and domains of companies and people, composed from syllables.

Lives here: words and their composition, unique by the number of the account. Must not live here: who bears which name at
which vendor (`sandbox/identity.py`). Any likeness to a real company is an accident of syllables.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sandbox.randomness import Ints, pick


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_ONSETS = ("br", "cr", "dr", "fr", "gr", "kr", "pr", "tr", "st", "sk", "sl", "sp", "bl", "cl", "fl", "gl")
_RIMES = ("an", "el", "or", "um", "ix", "on", "ar", "es", "in", "ul")
_SHOWN = ("an", "el", "ør", "um", "ix", "on", "ar", "és", "in", "ul")
_MIDDLES = ("t", "l", "m", "n", "d", "v", "c", "s", "r", "p", "k", "b")
_ENDINGS = ("ia", "eon", "ara", "ity", "ova", "is", "ent", "ado", "ux", "ette")
_KINDS = _words(
    "Labs Systems Logistics Health Media Robotics Analytics Energy Foods Retail Capital Mobility Networks Software "
    "Studios Biotech Insurance Learning Travel Security Materials Cloud Dynamics Partners Works Telecom Solar Marine "
    "Aerospace Textiles Chemicals Motors Estates Legal Staffing Printing Games Sports Events Furniture Ceramics Optics "
    "Metals Water Paper Agro Dental Pharma Payments Lending Freight Rail Airways Hotels Music Books Toys Fashion Beauty "
    "Farms"
)

FIRST_SHOWN = tuple((o + r).capitalize() for o in _ONSETS for r in _SHOWN)
FIRST_PLAIN = tuple(o + r for o in _ONSETS for r in _RIMES)
SECOND = tuple(m + e for m in _MIDDLES for e in _ENDINGS)
COMBINATIONS = len(FIRST_PLAIN) * len(SECOND) * len(_KINDS)
_STEP = 700_001
"""A prime that shares no factor with COMBINATIONS, so that neighbours in number bear unlike names."""

COUNTRIES = ("US", "GB", "DE", "FR", "NL", "SE", "BR", "ES", "CA", "AU", "JP", "PL", "IN", "DK")
LEGAL_FORMS = (
    "Inc.",
    "Ltd",
    "GmbH",
    "SAS",
    "B.V.",
    "AB",
    "Ltda.",
    "S.L.",
    "Inc.",
    "Pty Ltd",
    "K.K.",
    "sp. z o.o.",
    "Pvt. Ltd.",
    "ApS",
)
LEGAL_FORMS_BARE = (
    "Inc",
    "LIMITED",
    "gmbh",
    "S.A.S.",
    "BV",
    "ab",
    "LTDA",
    "SL",
    "INC",
    "Pty. Ltd.",
    "KK",
    "Sp. z o. o.",
    "Pvt Ltd",
    "APS",
)
TOP_LEVELS = (
    "com",
    "co.uk",
    "de",
    "fr",
    "nl",
    "se",
    "com.br",
    "es",
    "ca",
    "com.au",
    "co.jp",
    "pl",
    "in",
    "dk",
)
INDUSTRIES = (
    "Software",
    "Healthcare",
    "Manufacturing",
    "Retail",
    "Financial Services",
    "Education",
    "Media",
    "Logistics",
    "Energy",
    "Hospitality",
    "Construction",
    "Public Sector",
)
FREE_MAIL = ("gmail.com", "outlook.com", "yahoo.com", "gmx.de")
GIVEN = _words(
    "ada bea chen dana emil fatima goran hana ivan jonas kaja lena marek nadia olu priya quinn rosa sven tariq uma vera "
    "wei ximena yusuf zoe"
)
FAMILY = _words(
    "abe berg costa dubois ekholm fischer garcia hansen ito jensen kowalski larsen meyer novak okafor patel quist rossi "
    "silva tanaka ueda vogel wang xu yilmaz zhang"
)


def join(*parts: pa.Array | pa.Scalar | str) -> pa.Array:
    """Concatenate text columns and constants, row by row."""
    return pc.binary_join_element_wise(*[p if not isinstance(p, str) else pa.scalar(p) for p in parts], "")


def company_names(index: Ints, seed: int) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Name without legal form, short name, and domain without top level, by the account's number; none occurs twice."""
    place = (index * _STEP + seed * 7_919) % COMBINATIONS
    first, rest = place // (len(SECOND) * len(_KINDS)), place % (len(SECOND) * len(_KINDS))
    second, kind = rest // len(_KINDS), rest % len(_KINDS)
    short = join(pick(FIRST_SHOWN, first), pick(SECOND, second))
    name = join(short, " ", pick(_KINDS, kind))
    plain = join(pick(FIRST_PLAIN, first), pick(SECOND, second))
    return name, short, join(plain, "-", pc.utf8_lower(pick(_KINDS, kind)))


def person_locals(values: Ints) -> pa.Array:
    """The part of an e-mail address before the @, such as `ada.berg7`."""
    given, family = values % len(GIVEN), (values // len(GIVEN)) % len(FAMILY)
    number = pa.array((values // (len(GIVEN) * len(FAMILY))) % 97).cast(pa.string())
    return join(pick(GIVEN, given), ".", pick(FAMILY, family), number)


def owner_names(count: int) -> tuple[pa.Array, pa.Array]:
    """Given and family names of our own account owners."""
    numbers = np.arange(count)
    given, family = pick(GIVEN, numbers * 7 % len(GIVEN)), pick(FAMILY, (numbers * 5 + 3) % len(FAMILY))
    return pc.utf8_capitalize(given), pc.utf8_capitalize(family)


def owner_emails(count: int) -> pa.Array:
    """E-mail addresses of our own account owners."""
    given, family = owner_names(count)
    local = join(pc.utf8_lower(given), ".", pc.utf8_lower(family))
    return join(local, pa.array(np.arange(count)).cast(pa.string()), "@tenure-sandbox.example")
