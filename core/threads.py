"""How the threads of numeric libraries wait.

Lives here: the environment variable, set before any of the libraries is loaded. Must not live here: how many threads a call uses.
"""

from __future__ import annotations

import os


def wait_quietly() -> None:
    """Idle OpenMP threads sleep instead of spinning: on shared cores spinning takes the time of those that work."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
