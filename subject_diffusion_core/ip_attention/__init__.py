"""Image prompts as further keys and values of the cross-attention: IP-Adapter and MS-Diffusion."""

from .joint_attention import box_cells, joint_image_attention, looked_at_cells
from .projections import FullFaceProjection, ImageProjection
from .resamplers import GroundingResampler, PerceiverResampler

__all__ = [
    "FullFaceProjection",
    "GroundingResampler",
    "ImageProjection",
    "PerceiverResampler",
    "box_cells",
    "joint_image_attention",
    "looked_at_cells",
]
