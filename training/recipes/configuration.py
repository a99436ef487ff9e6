"""Every number and switch of a training run, in one frozen object that refuses what cannot work."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from subject_diffusion_core.adapter_options import AdapterOptions
from subject_diffusion_core.files.adapter_config import AdapterConfig
from subject_diffusion_core.files.ip_attention_file import HEAD_DIM

MAP_LOSSES = ("balanced_l1", "l1", "off")
MAX_SUBJECTS = 8
LATENT_DOWNSCALE = 8
_CHOICES: dict[str, tuple[Any, ...]] = {
    "method": ("subject_diffusion", "ip_adapter", "ms_diffusion"),
    "base_family": ("sd2", "sd15", "tiny"),
    "map_loss": MAP_LOSSES,
    "text_encoder": ("full", "lora", "frozen"),
    "optimizer": ("adamw", "adamw8bit"),
    "schedule": ("constant", "cosine"),
    "precision": ("float32", "bfloat16"),
    "prediction_type": ("auto", "epsilon", "v_prediction"),
    "ema_device": ("same", "cpu"),
}
# names, what their numbers must be, and how that is said
_RANGES: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (
        ("resolution", "num_subjects", "steps", "global_batch_size", "micro_batch_size",
         "text_lora_rank", "checkpoint_every", "keep_checkpoints", "log_every", "shuffle_shards",
         "grounding_hidden_dim", "projector_hidden_dim", "num_processes", "ema_every",
         "map_loss_below"),
        lambda value: value >= 1, "1 or more",
    ),
    (
        ("drop_text", "drop_image", "drop_both", "flip", "perspective", "same_view", "base_only",
         "unknown_label", "crowded_share"),
        lambda value: 0 <= value <= 1, "a share from 0 to 1",
    ),
    (("ema_decay",), lambda value: 0 <= value < 1, "0 (none) or a decay below 1"),
    (("adam_beta2",), lambda value: 0 <= value < 1, "0 or a decay below 1"),
    (
        ("map_loss_weight", "weight_decay", "rotation", "num_workers", "seed", "sheet_every",
         "sheet_subjects", "few_slots", "inside_weight", "initial_alpha_attn",
         "initial_alpha_dense"),
        lambda value: value >= 0, "0 or more",
    ),
    (
        ("learning_rate", "gradient_norm_limit", "timestep_shift"),
        lambda value: value > 0, "a number above 0",
    ),
    (("num_subjects",), lambda value: value <= MAX_SUBJECTS, f"1 to {MAX_SUBJECTS}"),
)  # fmt: skip
_SUBJECT_DIFFUSION_ONLY = (
    "image_cls", "location_control", "conv_in", "cross_attention_kv", "train_base", "token_table",
    "patch_positions", "query_positions", "token_positions", "local_start", "unknown_label",
    "sheet_every",
)  # fmt: skip
_OTHERS_HAVE = {
    "base_family": "tiny", "random_base": False, "adapter": True, "box_coordinates": True,
    "text_encoder": "frozen", "map_loss": "off",
}  # fmt: skip
_LARGEST = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(AdapterOptions):
    """A training run, completely described: the adapter's options and how they are trained.

    Attributes:
        name, summary: for people.
        method: subject_diffusion, ip_adapter (plus) or ms_diffusion. The last two train a resampler
            as wide as grounding_hidden_dim and keys and values of its tokens, on the small base.
        base_family: sd2, sd15 or tiny; decides the text padding and the provenance.
        random_base: build a random base of tiny widths instead of reading one (debug_cpu).
        resolution: side of the training pictures in pixels.
        adapter, image_cls, map_loss: parts that the paper's table 3 takes away (rows e, g, f),
            besides location_control (c) and box_coordinates (d) among the options.
        map_loss_weight: lambda of the objective, MSE + lambda * map loss. map_loss_below: it looks
            at layers of at most the latent's size divided by this: 2 as in the paper, 1 at all.
        inside_weight: how much heavier the squared error counts inside the subjects' boxes.
        timestep_shift: s of the timesteps' distribution: t/T -> s t / (1 + (s - 1) t), so above 1
            more of them are near noise, below 1 near the picture.
        text_encoder: full, lora (of text_lora_rank) or frozen. token_table: whether full training
            includes the table of token embeddings.
        cross_attention_kv, conv_in: whether they are trained. train_base: whether all the rest of
            the UNet is, too; the adapter then only fits the base that it was trained with.
        initial_alpha_attn, initial_alpha_dense: what the gates of new adapters start from.
        local_start: new adapters begin by looking at their own place (with query_positions).
        adapter_heads: number and width of new adapters' heads by the width of their block, such as
            "96:4x32 192:6x32"; blocks that are not named take those of their self-attention.
        drop_text, drop_image, drop_both: shares of samples that lose these conditions.
        base_only: share of samples that the base sees alone, as a text-to-image model: the plain
            caption, now and then no text, no subjects, no adapters. 1 with adapter, image_cls and
            location_control off is plain text-to-image training.
        unknown_label: share of samples whose label is hidden, so that the picture must tell.
        few_slots: slots of most steps, which take pictures of at most as many subjects; 0 gives
            every step all slots. crowded_share: share of the other steps, half of whose pictures
            have more subjects.
        prediction_type: auto takes the base's (epsilon where a single file does not say).
        global_batch_size: samples of one optimiser step, whatever the number of processes.
        micro_batch_size: samples a process takes at once; the rest is accumulated.
        num_processes: how many the recipe is meant for; only a note, any number works.
        optimizer: adamw, or adamw8bit (bitsandbytes). adam_beta2: decay of its second moment.
            offload_optimizer: moments and the step on the CPU.
        ema_decay: of the moving average that is exported; 0 keeps none. ema_every: steps between
            two updates, whose decay is taken to this power. ema_device: the model's, or cpu.
        same_view: share of references that may come from the training picture itself although the
            subject has other pictures.
        flip, rotation, perspective: augmentation of references, probability, degrees, probability.
        num_workers: processes that read data, per training process.
        shuffle_shards: shards whose samples are mixed.
        sheet_every: steps between sample sheets, 0 for none.
    """

    num_subjects: int = 2
    grounding_hidden_dim: int = 1024
    projector_hidden_dim: int = 1024
    num_freqs: ClassVar[int] = AdapterOptions.num_freqs  # type: ignore[misc]
    temperature: ClassVar[float] = AdapterOptions.temperature  # type: ignore[misc]
    placeholder: ClassVar[str] = AdapterConfig.placeholder
    placeholder_token_id: ClassVar[int] = AdapterConfig.placeholder_token_id
    name: str
    summary: str = ""
    method: str = "subject_diffusion"
    base_family: str = "sd2"
    random_base: bool = False
    resolution: int = 512
    adapter: bool = True
    image_cls: bool = True
    map_loss: str = "balanced_l1"
    map_loss_weight: float = 0.01
    map_loss_below: int = 2
    inside_weight: float = 1.0
    timestep_shift: float = 1.0
    text_encoder: str = "full"
    text_lora_rank: int = 32
    token_table: bool = True
    cross_attention_kv: bool = True
    conv_in: bool = True
    train_base: bool = False
    initial_alpha_attn: float = 0.0
    initial_alpha_dense: float = 0.0
    local_start: bool = False
    adapter_heads: str = ""
    drop_text: float = 0.05
    drop_image: float = 0.05
    drop_both: float = 0.05
    base_only: float = 0.0
    unknown_label: float = 0.0
    few_slots: int = 0
    crowded_share: float = 0.2
    prediction_type: str = "auto"
    steps: int = 300_000
    warmup_steps: int = 1000
    schedule: str = "constant"
    learning_rate: float = 3e-5
    weight_decay: float = 0.0
    gradient_norm_limit: float = 1.0
    global_batch_size: int = 288
    micro_batch_size: int = 12
    num_processes: int = 24
    optimizer: str = "adamw"
    adam_beta2: float = 0.999
    offload_optimizer: bool = False
    ema_decay: float = 0.9999
    ema_every: int = 1
    ema_device: str = "same"
    precision: str = "bfloat16"
    gradient_checkpointing: bool = True
    same_view: float = 0.0
    flip: float = 0.5
    rotation: float = 10.0
    perspective: float = 0.5
    num_workers: int = 4
    shuffle_shards: int = 8
    seed: int = 0
    checkpoint_every: int = 1000
    keep_checkpoints: int = 2
    log_every: int = 50
    sheet_every: int = 2000
    sheet_subjects: int = 4
    tensorboard: bool = True
    wandb: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float):
                self._require(field.name, math.isfinite(value), "a finite number")
            elif isinstance(value, int):
                self._require(field.name, abs(value) <= _LARGEST, "a number of at most 63 bits")
        for name, choices in _CHOICES.items():
            self._require_choice(name, choices)
        for names, fits, expected in _RANGES:
            for name in names:
                self._require(name, fits(getattr(self, name)), expected)
        self._require("few_slots", self.few_slots <= self.num_subjects, "at most num_subjects")
        multiple = 8 * LATENT_DOWNSCALE if self.base_family != "tiny" else 2 * LATENT_DOWNSCALE
        whole = self.resolution % multiple == 0
        self._require("resolution", whole, f"a multiple of {multiple} pixels")
        self._refuse_wrong_combinations()
        if self.method != "subject_diffusion":
            self._refuse_parts_of_subject_diffusion()

    def _refuse_wrong_combinations(self) -> None:
        """What each setting alone allows, but not together."""
        whole = self.global_batch_size % self.micro_batch_size == 0
        dropped = self.drop_text + self.drop_image + self.drop_both
        no_maps = self.map_loss == "off"
        follows = self.image_cls or self.cross_attention_kv or self.text_encoder != "frozen"
        conditioned = self.location_control or self.adapter or self.image_cls
        plain = self.base_only == 1 and self.train_base and not conditioned
        positions = self.patch_positions or self.query_positions
        two_optimizers = self.offload_optimizer and self.optimizer == "adamw8bit"
        some = "at least one of adapter, image_cls, location_control"
        untrained = "off where neither CLS, text nor K/V is trained: nothing could follow it"
        places = "False without query_positions, by which adapters look at places"
        moments = "False with adamw8bit, whose moments live on the GPU"
        masked = self.conv_in or not self.location_control
        local = self.query_positions or not self.local_start
        shown = no_maps or self.base_only < 1
        for name, fits, expected in (
            ("micro_batch_size", whole, f"a divisor of global_batch_size {self.global_batch_size}"),
            ("drop_both", dropped <= 1, "drop_text + drop_image + drop_both up to 1"),
            ("location_control", masked, "False where conv_in is not trained"),
            ("map_loss", shown, "off where no sample has subjects (base_only=1)"),
            ("local_start", local, places),
            ("map_loss", no_maps or follows, untrained),
            ("adapter", conditioned or plain, f"{some}, or base_only=1 and train_base"),
            ("adapter", self.adapter or not positions, "True with patch or query positions"),
            ("warmup_steps", 0 <= self.warmup_steps <= self.steps, f"0 to steps ({self.steps})"),
            ("offload_optimizer", not two_optimizers, moments),
        ):
            self._require(name, fits, expected)

    def _refuse_parts_of_subject_diffusion(self) -> None:
        """What other methods do not have must not seem to act."""
        for name in _SUBJECT_DIFFUSION_ONLY:
            self._require(name, not getattr(self, name), f"0 or False with {self.method}")
        for name, only in _OTHERS_HAVE.items():
            self._require(name, getattr(self, name) == only, f"{only} with {self.method}")
        whole = self.grounding_hidden_dim % HEAD_DIM == 0
        self._require("grounding_hidden_dim", whole, f"a multiple of {HEAD_DIM} with {self.method}")

    @property
    def has_references(self) -> bool:
        """Whether anything looks at the subjects' pictures."""
        return self.adapter or self.image_cls

    def heads(self) -> dict[int, tuple[int, int]]:
        """``adapter_heads`` as numbers and widths of heads by the width of the block."""
        try:
            entries = (entry.split(":") for entry in self.adapter_heads.split())
            pairs = ((int(width), heads.split("x")) for width, heads in entries)
            return {width: (int(number), int(size)) for width, (number, size) in pairs}
        except ValueError:
            self._require("adapter_heads", False, "entries such as 96:4x32")
            raise

    def _advice(self, name: str) -> str:
        return f"Choose another value with --set {name}=..."

    def accumulation(self, num_processes: int) -> int:
        """Micro-batches that a process accumulates for one step."""
        share = self.micro_batch_size * num_processes
        if self.global_batch_size % share:
            raise ValueError(
                f"global_batch_size: expected a multiple of micro_batch_size x processes "
                f"({self.micro_batch_size} x {num_processes}), got {self.global_batch_size}. "
                "Set global_batch_size, or micro_batch_size, to fit."
            )
        return self.global_batch_size // share

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the run's saved configuration and the checkpoints; name first."""
        return {"name": self.name, "summary": self.summary, **asdict(self)}
