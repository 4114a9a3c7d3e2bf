"""Erasing an account or a person from everything that Tenure keeps: see docs/privacy.md.

Lives here: the subject, the kinds of stores, and the order in which they are emptied. Must not live here: what extraction keeps out
afterwards (`sources/suppressed.py`), how a destination is written to (`activation/`).
"""
