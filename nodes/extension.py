"""What ComfyUI loads: the list of nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .adapter_loader import SubjectDiffusionAdapterLoader, register_adapter_folder
from .apply import SubjectDiffusionApply
from .attention_maps import SubjectDiffusionAttentionMaps
from .box_mask import SubjectDiffusionBoxMask
from .encode import SubjectDiffusionEncode
from .guider import SubjectDiffusionGuider
from .interpolate import SubjectDiffusionInterpolate
from .layout import SubjectDiffusionLayout
from .record_attention import SubjectDiffusionRecordAttention
from .reference_view import SubjectDiffusionReferenceView
from .segment import SubjectDiffusionSegment
from .segment_loader import SubjectDiffusionSegmentLoader, register_segmenter_folder
from .subject import SubjectDiffusionSubject
from .tiny_loader import SubjectDiffusionTinyLoader


class SubjectDiffusionExtension(ComfyExtension):
    """The nodes; their ids, inputs and outputs are frozen, as saved workflows depend on them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_adapter_folder()
        register_segmenter_folder()
        return [
            SubjectDiffusionTinyLoader,
            SubjectDiffusionAdapterLoader,
            SubjectDiffusionSubject,
            SubjectDiffusionLayout,
            SubjectDiffusionReferenceView,
            SubjectDiffusionEncode,
            SubjectDiffusionApply,
            SubjectDiffusionGuider,
            SubjectDiffusionInterpolate,
            SubjectDiffusionBoxMask,
            SubjectDiffusionSegmentLoader,
            SubjectDiffusionSegment,
            SubjectDiffusionRecordAttention,
            SubjectDiffusionAttentionMaps,
        ]
