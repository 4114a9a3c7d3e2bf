"""Benchmarks: how fast and how large, against a floor that is measured in the same run.

Lives here: the yardstick (`floor.sql`), the tasks that a measured process runs, and what each benchmark compares and
promises. Must not live here: anything that the product needs. A floor is the least work that gives the same result, so a
ratio says what generality, checks and safety cost, on whatever machine it is measured.
"""
