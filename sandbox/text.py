"""What people write: tickets, survey comments, e-mails, in a tone that follows the account's mood.

Lives here: phrases and how they are put together, with the commas, quotes, line breaks, emoji and accents that real text
has. Must not live here: who writes when.
"""

from __future__ import annotations

import pyarrow as pa

from sandbox.names import join
from sandbox.randomness import Ints, pick

TOPICS = (
    "report export",
    "single sign-on",
    "dashboard",
    "CSV import",
    "API rate limit",
    "invoice",
    "user permissions",
    "mobile app",
    "Slack integration",
    "scheduled e-mail",
    "search",
    "data sync",
)
_SUBJECTS = (
    ("Question about the {}", "How to set up the {}?", "Small thing with the {}"),
    ("Problem with the {}", "{} does not work as expected", "Help needed: {}"),
    ("{} broken AGAIN", "Still no answer on the {}!", "URGENT: {} unusable"),
)
_OPENERS = (
    ("Hi team, hope you are well 😊", "Hello, we love the new release.", "Hej, quick one from Malmö:"),
    ("Hello,", "Hi support,", "Good morning, we ran into something:"),
    (
        "This is the third time we write about this.",
        "We are very disappointed 😡",
        "Our team lost a whole day, and nobody answers.",
    ),
)
_CORES = (
    "the {} shows an empty page after we pick last month",
    'the {} fails with "Error 500, please try again"',
    "since the update the {} takes minutes, then stops",
    "we cannot find where to change the {}; the docs say Settings > General",
    "the {} counts rows twice: 1,204 instead of 602",
)
_CLOSERS = (
    ("Thanks a lot! 🙏", "No rush, thank you.\nBest regards, Zoë", "Great product, keep going."),
    (
        "Could you have a look?",
        "Steps:\n1. open it\n2. click, wait\n3. see above",
        'Screenshot follows; file name "bug, final (2).png".',
    ),
    (
        "If this is not fixed we will look at other vendors.",
        "Please escalate to your manager, now!",
        "We pay for this, and it does not work 👎",
    ),
)
_COMMENTS = (
    ("Does what it should, and support is quick.", "Our team relies on it every day ❤️", "Très bien, merci!", None),
    (
        "Fine, but reports are slow.",
        "It's ok, the price is a bit high",
        "Useful; some features are hard to find.",
        None,
    ),
    (
        "Too many bugs, too little help.",
        "We asked for SSO a year ago, nothing happened.",
        'Hard to justify the price; "easy" it is not.',
        None,
    ),
)
_MAILS = (
    "Check-in",
    "Quarterly review",
    "New feature for you",
    "Training for your team",
    "Question about seats",
    "Follow-up on our call",
    "Invitation: customer webinar",
    "Roadmap",
)
_MAIL_BODIES = (
    "Hi, just checking in: how is the roll-out going?",
    "Agenda:\n1. goals, 2. usage, 3. next steps",
    "We have just released something that fits your team 🚀",
    "Happy to run a 30-minute session, whenever it suits you.",
    "Do you have enough seats for the new colleagues?",
    "Thanks for your time; notes attached, as promised.",
    'Join us for "What\'s new", next Thursday at 15:00.',
    "Here is what we plan for the next two quarters.",
)


def _grid(phrases: tuple[tuple[str | None, ...], ...]) -> tuple[list[str | None], int]:
    return [p for row in phrases for p in row], len(phrases[0])


def _toned(phrases: tuple[tuple[str | None, ...], ...], tone: Ints, draw: Ints) -> pa.Array:
    flat, width = _grid(phrases)
    return pick(flat, tone * width + draw % width)


def ticket_texts(tone: Ints, draw: Ints) -> tuple[pa.Array, pa.Array]:
    """Subject and body of tickets. `tone` is 0 friendly, 1 neutral, 2 angry; `draw` any whole number per ticket."""
    topic = draw % len(TOPICS)
    subjects = [s.format(t) for row in _SUBJECTS for s in row for t in TOPICS]
    width = len(_SUBJECTS[0])
    subject = pick(subjects, (tone * width + draw // 16 % width) * len(TOPICS) + topic)
    cores = [c.format(t) for c in _CORES for t in TOPICS]
    core = pick(cores, (draw // 64 % len(_CORES)) * len(TOPICS) + topic)
    body = join(_toned(_OPENERS, tone, draw // 512), " ", core, ". ", _toned(_CLOSERS, tone, draw // 2048))
    return subject, body


def survey_comments(score: Ints, draw: Ints) -> pa.Array:
    """Comments on NPS answers (score 0 to 10); about one in four leaves none."""
    return _toned(_COMMENTS, (score < 9).astype("int64") + (score < 7).astype("int64"), draw)


def engagement_texts(topic: Ints) -> tuple[pa.Array, pa.Array]:
    """Subject and body of e-mails, meetings and calls."""
    return pick(_MAILS, topic), pick(_MAIL_BODIES, topic)
