"""Wrong input of every kind, by chance: what the pack says, and whether the server lives on."""
