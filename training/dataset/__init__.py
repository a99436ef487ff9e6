"""Training data: one layout of shards, read at any position, the same for any number of readers."""
