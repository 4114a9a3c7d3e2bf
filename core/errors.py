"""Error words: what a user did wrong, and how a failing input is treated.

Lives here: the exceptions that cross folder borders. Must not live here: the decision which HTTP answer is which (`core/http.py`).
"""

from __future__ import annotations


class TenureError(Exception):
    """An error with a sentence for people: what happened and where, and in `hint` what to do."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        """Message and hint: what others (Dagster, a log) show of the error."""
        return self.message if self.hint is None else f"{self.message} {self.hint}"


class UserError(TenureError):
    """Wrong use: a setting, a file or an argument that the user can mend. Exit code 2."""

    exit_code = 2


class Refused(TenureError):
    """A check or a guard said no; nothing was published. Exit code 3."""

    exit_code = 3


class Fatal(TenureError):
    """The input of one stream is broken; the stream stops and keeps what it had."""


class Retriable(TenureError):
    """The input may be there a moment later (a locked file, a refused connection); the run tries again with backoff.

    `retry_after` is in seconds, where the other side said when to come back.
    """

    def __init__(self, message: str, *, hint: str | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class Unauthorized(Fatal):
    """The other side does not know us (401): new credentials may help, the same ones will not."""


class Forbidden(Fatal):
    """The other side knows us and says no (403); the message names what is missing."""


class BatchRefused(Fatal):
    """The other side refused a request as a whole (400, 413, 422); a part of it may be fine."""


class Skippable(TenureError):
    """One row is broken; it goes to quarantine and the stream goes on."""


def in_short(error: BaseException) -> str:
    """The first line of what an exception that is not ours says, with its kind, for a sentence that says where it happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__


FULL = ("no space left", "disk is full", "disk full", "file too large", "disk i/o")
"""What the system, SQLite and DuckDB say of a disk that takes no more."""


def says_full(words: str) -> bool:
    """Whether an error's words are those of a full disk, whoever they come from."""
    lower = words.lower()
    return any(word in lower for word in FULL)
