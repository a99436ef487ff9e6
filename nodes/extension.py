"""What ComfyUI loads: the list of nodes."""

from __future__ import annotations

import folder_paths
from comfy_api.latest import ComfyExtension, io

from .adapters.adapter_loader_node import ADAPTERS, SubjectDiffusionAdapterLoader
from .adapters.apply_node import SubjectDiffusionApply
from .adapters.encode_node import SubjectDiffusionEncode
from .adapters.encode_subjects_node import SubjectDiffusionEncodeSubjects
from .adapters.guider_node import SubjectDiffusionGuider
from .adapters.interpolate_node import SubjectDiffusionInterpolate
from .adapters.load_subjects_node import SubjectDiffusionLoadSubjects
from .adapters.reference_view_node import SubjectDiffusionReferenceView
from .adapters.save_subjects_node import SubjectDiffusionSaveSubjects
from .adapters.subject_files import SUBJECT_FILES
from .attention_maps.attention_maps_node import SubjectDiffusionAttentionMaps
from .attention_maps.record_attention_node import SubjectDiffusionRecordAttention
from .checked_inputs import with_checked_inputs
from .dreamtuner.dreamtuner_guider_node import SubjectDiffusionDreamTunerGuider
from .dreamtuner.self_subject_attention_node import SubjectDiffusionSelfSubjectAttention
from .hifi_tuner.apply_embedding_node import SubjectDiffusionApplyEmbedding
from .hifi_tuner.load_embedding_node import SubjectDiffusionLoadEmbedding
from .hifi_tuner.reference_guided_sampler_node import SubjectDiffusionReferenceGuidedSampler
from .hifi_tuner.replacement_sampler_node import SubjectDiffusionReplacementSampler
from .hifi_tuner.save_embedding_node import SubjectDiffusionSaveEmbedding
from .hifi_tuner.tune_embedding_node import SubjectDiffusionTuneEmbedding
from .hifi_tuner.tuned_files import TUNED_FILES
from .host.picture_route import register_picture_route
from .segmentation.cut_out_node import SubjectDiffusionCutOut
from .segmentation.segment_loader_node import (
    SEGMENTERS,
    SubjectDiffusionSegmentLoader,
)
from .segmentation.segment_node import SubjectDiffusionSegment
from .subjects.box_mask_node import SubjectDiffusionBoxMask
from .subjects.layout_node import SubjectDiffusionLayout
from .subjects.layout_places import register_layout_route
from .subjects.subject_node import SubjectDiffusionSubject
from .tiny.tiny_loader_node import SubjectDiffusionTinyLoader


class SubjectDiffusionExtension(ComfyExtension):
    """The nodes; their ids, inputs and outputs are frozen, as saved workflows depend on them."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        ADAPTERS.register()
        SEGMENTERS.register()
        SUBJECT_FILES.register(folder_paths.get_output_directory())  # where Save Subjects puts them
        TUNED_FILES.register(folder_paths.get_output_directory())
        register_layout_route()
        register_picture_route()
        nodes: list[type[io.ComfyNode]] = [
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
            SubjectDiffusionCutOut,
            SubjectDiffusionRecordAttention,
            SubjectDiffusionAttentionMaps,
            SubjectDiffusionEncodeSubjects,
            SubjectDiffusionSaveSubjects,
            SubjectDiffusionLoadSubjects,
            SubjectDiffusionSelfSubjectAttention,
            SubjectDiffusionDreamTunerGuider,
            SubjectDiffusionTuneEmbedding,
            SubjectDiffusionApplyEmbedding,
            SubjectDiffusionSaveEmbedding,
            SubjectDiffusionLoadEmbedding,
            SubjectDiffusionReferenceGuidedSampler,
            SubjectDiffusionReplacementSampler,
        ]
        return [with_checked_inputs(node) for node in nodes]
