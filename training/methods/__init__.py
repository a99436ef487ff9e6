"""One folder per method: its model, objective, recipe's assembly and files."""
