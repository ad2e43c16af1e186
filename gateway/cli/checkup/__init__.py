"""What `batchway doctor` looks at: the directory, the ledger in it, the providers behind it. Reads only."""
