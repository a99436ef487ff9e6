"""DreamTuner: self-subject-attention and its guidance, without any trained weights."""

from .attention_share import reference_attention_share
from .reference_guidance import expected_guidance, interleaved_guidance
from .self_subject_attention import (
    QueryGroup,
    attend_in_groups,
    group_queries,
    self_subject_attention,
)

__all__ = [
    "QueryGroup",
    "attend_in_groups",
    "expected_guidance",
    "group_queries",
    "interleaved_guidance",
    "reference_attention_share",
    "self_subject_attention",
]
