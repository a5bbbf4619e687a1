"""The record nobody can quietly change: a journal of files, chained by a key.

    keys.py       the keys, derived from the master key, and what they sign
    files.py      names of files in `data/audit/`; heads and tombstones beside them
    journal.py    one chain of one process: append, rotate, make durable
    trail.py      what is recorded of calls, refusals and administration
    leftovers.py  calls a killed process left open
    pruning.py    letting old files go, so that the rest still verifies
    verify.py     finds what was changed, removed, added, reordered or cut off
    reading.py    records in their order, filters, other formats

Knows files and keys. Refuses to know the database: a copy there is `storage`'s, made by `runtime`.
"""
