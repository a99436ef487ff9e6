"""How long anything is waited for that may be slow, but that must not hang for ever.

A wait ends when the thing happens, or when its process has died; this limit, the only one, is there
for what hangs. It is long because a busy machine is slow.
"""

from __future__ import annotations

import os

# Shorter where things are expected to hang: tests on front ends of other ages.
PATIENCE_SECONDS = float(os.environ.get("SUBJECT_DIFFUSION_PATIENCE", 15 * 60))
