"""Telling people that a run or a sync went wrong: a webhook, an e-mail, or both, as `alerts` in `tenure.yml` says.

Lives here: the message and its ways out. Must not live here: when to alert (`triggers.py`, `runs.py`).
"""

from __future__ import annotations

import smtplib
from dataclasses import asdict, dataclass
from email.message import EmailMessage
from urllib.parse import unquote, urlsplit

from core.errors import TenureError
from core.http import post_json
from core.settings import AlertConfig

_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class Failure:
    """What people need to know about a run that went wrong; `reasons` are sentences without personal values.

    With the status `stopped` the run has published, and a part of it, such as a sync, did not go through.
    """

    company: str
    run_id: str
    job: str
    reasons: tuple[str, ...]
    status: str = "failed"

    @property
    def subject(self) -> str:
        words = "went through only in part" if self.status == "stopped" else "failed"
        return f"Tenure: the run of {self.company} {words}"

    @property
    def text(self) -> str:
        reasons = "\n".join(f"- {reason}" for reason in self.reasons) or "- No reason was recorded; see the run's log."
        words = {
            "stopped": "has published. This did not go through",
            "refused": "was refused by a check. The published data stays as it was",
        }.get(self.status, "failed. The published data stays as it was")
        end = ":" if self.status == "stopped" else "."
        return f"Run {self.run_id} ({self.job}) {words}{end}\n\n{reasons}\n\nNext: tenure status"


@dataclass(frozen=True)
class SyncNotice:
    """What people need to know of a sync that went wrong, or works again."""

    company: str
    destination: str
    run_id: str
    status: str
    reasons: tuple[str, ...]
    has_recovered: bool = False

    @property
    def subject(self) -> str:
        words = "works again" if self.has_recovered else "did not go through"
        return f"Tenure: the sync of {self.company} to {self.destination} {words}"

    @property
    def text(self) -> str:
        reasons = "\n".join(f"- {reason}" for reason in self.reasons)
        return f"Sync {self.run_id} ended as {self.status}.\n\n{reasons}\n\nNext: tenure sync status {self.destination}"


def send(failure: Failure | SyncNotice, config: AlertConfig) -> list[str]:
    """Send `failure` every configured way; return a sentence for each way that did not work."""
    problems = []
    if config.webhook_url is not None:
        try:
            # `text` is what Slack, Teams and Mattermost webhooks show; the rest is for programs.
            post_json(
                config.webhook_url.get_secret_value(), {"text": f"{failure.subject}\n{failure.text}", **asdict(failure)}
            )
        except TenureError as error:
            problems.append(f"The webhook was not told: {error.message}")
    if config.email_to and config.smtp_url is not None:
        try:
            _mail(failure, config, config.smtp_url.get_secret_value())
        except (OSError, smtplib.SMTPException) as error:
            problems.append(f"No e-mail was sent: {error}")
    return problems


def _mail(failure: Failure | SyncNotice, config: AlertConfig, url: str) -> None:
    """Send by `smtp://[user:password@]host[:port]`, or `smtps://` for TLS from the start."""
    parts = urlsplit(url)
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = failure.subject, config.email_from, ", ".join(config.email_to)
    message.set_content(failure.text)
    connect = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
    with connect(parts.hostname or "localhost", parts.port or 0, timeout=_TIMEOUT_SECONDS) as server:
        if parts.username:
            server.login(unquote(parts.username), unquote(parts.password or ""))
        server.send_message(message)
