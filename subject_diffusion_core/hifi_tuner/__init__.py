"""HiFi Tuner: a subject's embedding, tuned on a few pictures of it, and generation that takes
details from one of them."""

from .context_vectors import last_vectors, with_last_vectors
from .embedding_loss import distance_to_null, latent_mask, masked_sum, noise_error
from .inversion import euler_step, invert_ddim
from .reference_guidance import guided_steps, inside_outside, optimize_null_text
from .replacement_attention import split_values, token_mapper, two_call_attention
from .similarity import Similarity, fit_similarity
from .tuned_embedding import TunedEmbedding, step_ranges
from .tuning import (
    EmbeddingTuner,
    Picture,
    TuningSettings,
    TuningState,
    TuningUpdate,
    first_state,
)

__all__ = [
    "EmbeddingTuner",
    "Picture",
    "Similarity",
    "TunedEmbedding",
    "TuningSettings",
    "TuningState",
    "TuningUpdate",
    "distance_to_null",
    "euler_step",
    "first_state",
    "fit_similarity",
    "guided_steps",
    "inside_outside",
    "invert_ddim",
    "last_vectors",
    "latent_mask",
    "masked_sum",
    "noise_error",
    "optimize_null_text",
    "split_values",
    "step_ranges",
    "token_mapper",
    "two_call_attention",
    "with_last_vectors",
]
