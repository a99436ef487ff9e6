"""Real checkpoints of the dataset pipeline's models at tiny width, with random weights."""

from __future__ import annotations

import string
from pathlib import Path

import torch
from segment_anything import modeling
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    BertConfig,
    BertTokenizerFast,
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessor,
    GroundingDinoConfig,
    GroundingDinoForObjectDetection,
    GroundingDinoImageProcessor,
    GroundingDinoProcessor,
    OPTConfig,
    PreTrainedTokenizerFast,
    SwinConfig,
)

from subject_diffusion_core.sam_geometry import SamGeometry, build_sam_of

WORDS = ["a", "dog", "cat", "two", "on", "the", "lawn", "with", "red", "ball", "and"]
QUERIES = 4  # of BLIP-2's Q-Former


def save_blip2(folder: Path, seed: int = 0) -> Path:
    """BLIP-2 with OPT, 32 wide, whose words are WORDS."""
    vocabulary = {word: number for number, word in enumerate(["<pad>", "</s>", "<image>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="</s>", bos_token="</s>",
        unk_token="<pad>", additional_special_tokens=["<image>"],
    )  # fmt: skip
    tokenizer.image_token = "<image>"
    size = {"height": 32, "width": 32}
    processor = Blip2Processor(BlipImageProcessor(size=size), tokenizer, num_query_tokens=QUERIES)
    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            **small, intermediate_size=48, image_size=32, patch_size=8
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            **small, intermediate_size=48, encoder_hidden_size=32, vocab_size=len(vocabulary)
        ).to_dict(),
        text_config=OPTConfig(
            **small, ffn_dim=48, vocab_size=len(processor.tokenizer), word_embed_proj_dim=32,
            max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=1,
        ).to_dict(),
        num_query_tokens=QUERIES,
        image_token_index=processor.tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    torch.manual_seed(seed)
    model = Blip2ForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data.mul_(8)  # so that pictures get different words
    model.generation_config.suppress_tokens = [0, 1, 2]  # words only
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_grounding_dino(folder: Path, seed: int = 0) -> Path:
    """Grounding DINO with Swin and BERT, 64 wide, 12 queries."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = [*string.ascii_lowercase, *(f"##{letter}" for letter in string.ascii_lowercase)]
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "?"]
    (folder / "vocab.txt").write_text("\n".join([*special, *WORDS[1:], *letters]))
    tokenizer = BertTokenizerFast.from_pretrained(folder)
    size = {"shortest_edge": 64, "longest_edge": 96}
    processor = GroundingDinoProcessor(GroundingDinoImageProcessor(size=size), tokenizer)
    config = GroundingDinoConfig(
        backbone_config=SwinConfig(
            embed_dim=16, depths=[1, 1, 1, 1], num_heads=[1, 2, 2, 4], window_size=4,
            out_features=["stage2", "stage3", "stage4"],
        ),
        text_config=BertConfig(
            vocab_size=len(tokenizer), hidden_size=32, num_hidden_layers=1,
            num_attention_heads=2, intermediate_size=48, max_position_embeddings=64,
        ).to_dict(),
        d_model=64, encoder_layers=1, decoder_layers=2, encoder_ffn_dim=48, decoder_ffn_dim=48,
        encoder_attention_heads=2, decoder_attention_heads=2, num_queries=12, max_text_len=32,
        num_feature_levels=4, disable_custom_kernels=True,
    )  # fmt: skip
    torch.manual_seed(seed)
    GroundingDinoForObjectDetection(config).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_sam(path: Path, seed: int = 0) -> Path:
    """SAM of 64 pixels a side, two blocks."""
    geometry = SamGeometry(
        grid=4, patch_size=16, window_size=2, global_blocks=(1,), width=32, depth=2, num_heads=2,
        mlp_ratio=2.0, embed_dim=32, mask_channels=4, num_masks=3, decoder_depth=1,
        decoder_mlp_dim=32, iou_depth=2, iou_hidden_dim=16,
    )  # fmt: skip
    torch.manual_seed(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(build_sam_of(modeling, geometry).state_dict(), path)
    return path
