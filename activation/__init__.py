"""Step 5, activate: bring published tables into the tools where people work, row by row, with proof.

Lives here: the plan (what differs from what a destination acknowledged), the engine that sends it, the ledger that remembers,
and one file per destination. Must not live here: what is sent (SQL in `models/activation/`), when it is sent (orchestration).
"""
