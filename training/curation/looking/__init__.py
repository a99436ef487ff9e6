"""Looking at a dataset: what is in its shards, what the filters took, as numbers and as a page."""
