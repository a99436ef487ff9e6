"""How the pack is built, counted: the way of a picture, imports, files, work per run."""
