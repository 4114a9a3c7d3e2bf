"""What the published marts promise, as data."""

from __future__ import annotations

MARTS: tuple[()] = ()
