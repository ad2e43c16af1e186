"""The durable truth (the ledger) and the long memory of answers (the cache).

Floor 2. Start at `ledger`: it names the rooms. `rows` has what goes in and out, `choose` the pure rule of sameness,
`database` what a database must do, `sqlite` the one that does it in a file.
"""
