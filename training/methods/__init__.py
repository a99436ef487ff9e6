"""One folder per method: its model, how it is assembled, its files; beside them what all share."""
