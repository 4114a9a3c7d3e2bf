"""One file per destination: how its answer to a batch becomes one result per row.

Lives here: a vendor's paths, limits, payloads and error words. Must not live here: diffing, batching, retries, the ledger.
"""
