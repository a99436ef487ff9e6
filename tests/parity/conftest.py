"""Makes core importable without installing it."""

from __future__ import annotations

import sys
from pathlib import Path

# at the end: the repository's root also holds nodes/, which must not shadow ComfyUI's nodes.py
sys.path.append(str(Path(__file__).resolve().parents[2]))
