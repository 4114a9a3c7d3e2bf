"""Records that a source stamped in the future, by a clock that is wrong: what is said of them.

Lives here: from when on a stamp counts as one of the future, and the sentence with the records' keys. Must not live here: how far
progress goes (`cursors.py`, the vendors), whether a row may be loaded (`mapping.py`).
"""

from __future__ import annotations

from datetime import timedelta

CLOCKS_DIFFER = timedelta(minutes=15)
"""Clocks of two machines differ by less than this."""
ZONES_DIFFER = timedelta(hours=14)
"""A time without a zone may be a local one: no place is further ahead of UTC."""
_EXAMPLES = 3


class Future:
    """The records of one load that are stamped in the future by `field`."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._count = 0
        self._examples: list[str] = []

    def note(self, name: str, stamp: object) -> None:
        """Take note of a record called `name`."""
        self._count += 1
        if len(self._examples) < _EXAMPLES:
            self._examples.append(f"{name}: {stamp}")

    @property
    def warnings(self) -> tuple[str, ...]:
        """The sentence that names them; none where there are none."""
        if not self._count:
            return ()
        shown = "; ".join(self._examples) + ("; and others" if self._count > len(self._examples) else "")
        records = "1 row is" if self._count == 1 else f"{self._count:,} rows are"
        return (
            f"{records} stamped in the future by {self._field} ({shown})."
            " The cursor does not follow, so that nothing is missed; correct the stamp in the source.",
        )
