"""Whether a change alters what the nodes compute: every example, bit for bit, before and after."""
