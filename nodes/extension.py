"""What ComfyUI loads: the list of nodes."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .adapter_loader import SubjectDiffusionAdapterLoader, register_adapter_folder
from .apply import SubjectDiffusionApply
from .attention_maps import SubjectDiffusionAttentionMaps
from .box_mask import SubjectDiffusionBoxMask
from .encode import SubjectDiffusionEncode
from .encode_subjects import SubjectDiffusionEncodeSubjects
from .guider import SubjectDiffusionGuider
from .interpolate import SubjectDiffusionInterpolate
from .layout import SubjectDiffusionLayout
from .layout_places import register_layout_route
from .load_subjects import SubjectDiffusionLoadSubjects
from .record_attention import SubjectDiffusionRecordAttention
from .reference_view import SubjectDiffusionReferenceView
from .save_subjects import SubjectDiffusionSaveSubjects
from .segment import SubjectDiffusionSegment
from .segment_loader import SubjectDiffusionSegmentLoader, register_segmenter_folder
from .subject import SubjectDiffusionSubject
from .subject_files import register_embeds_folders
from .tiny_loader import SubjectDiffusionTinyLoader


class SubjectDiffusionExtension(ComfyExtension):
    """The nodes; their ids, inputs and outputs are frozen, as saved workflows depend on them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_adapter_folder()
        register_segmenter_folder()
        register_embeds_folders()
        register_layout_route()
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
            SubjectDiffusionEncodeSubjects,
            SubjectDiffusionSaveSubjects,
            SubjectDiffusionLoadSubjects,
        ]
