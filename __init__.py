"""Subject-Diffusion for ComfyUI: one picture of a subject, a box, a prompt.

ComfyUI finds the pack through `comfy_entrypoint`. Importing this package imports neither ComfyUI
nor torch, so it is also safe to import from tests and tools.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes.extension import SubjectDiffusionExtension

WEB_DIRECTORY = "./web"


async def comfy_entrypoint() -> SubjectDiffusionExtension:
    """Called by ComfyUI when it loads the pack."""
    from .nodes.extension import SubjectDiffusionExtension

    return SubjectDiffusionExtension()
