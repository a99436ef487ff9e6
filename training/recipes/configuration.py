"""Every number and switch of a training run, in one frozen object that refuses what cannot work."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from subject_diffusion_core.adapter_options import AdapterOptions
from subject_diffusion_core.files.adapter_config import AdapterConfig

MAP_LOSSES = ("balanced_l1", "l1", "off")
MAX_SUBJECTS = 8
LATENT_DOWNSCALE = 8
_CHOICES: dict[str, tuple[Any, ...]] = {
    "base_family": ("sd2", "sd15", "tiny"),
    "map_loss": MAP_LOSSES,
    "text_encoder": ("full", "lora", "frozen"),
    "optimizer": ("adamw", "adamw8bit"),
    "schedule": ("constant", "cosine"),
    "precision": ("float32", "bfloat16"),
    "prediction_type": ("auto", "epsilon", "v_prediction"),
    "ema_device": ("same", "cpu"),
}
_AT_LEAST_ONE = (
    "resolution", "num_subjects", "steps", "global_batch_size", "micro_batch_size",
    "text_lora_rank", "checkpoint_every", "keep_checkpoints", "log_every", "shuffle_shards",
    "grounding_hidden_dim", "projector_hidden_dim", "num_processes", "ema_every",
)  # fmt: skip
_SHARES = ("drop_text", "drop_image", "drop_both", "flip", "perspective", "same_view")


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(AdapterOptions):
    """A training run, completely described: the adapter's options and how they are trained.

    Attributes:
        name, summary: for people.
        base_family: sd2, sd15 or tiny; decides the text padding and the provenance.
        random_base: build a random base of tiny widths instead of reading one (debug_cpu).
        resolution: side of the training pictures in pixels.
        adapter, image_cls, map_loss: parts that the paper's table 3 takes away (rows e, g, f),
            besides location_control (c) and box_coordinates (d) among the options.
        map_loss_weight: lambda of the objective, MSE + lambda * map loss.
        text_encoder: full, lora (of text_lora_rank) or frozen. token_table: whether full training
            includes the table of token embeddings.
        cross_attention_kv, conv_in: whether they are trained.
        drop_text, drop_image, drop_both: shares of samples that lose these conditions.
        prediction_type: auto takes the base's (epsilon where a single file does not say).
        global_batch_size: samples of one optimiser step, whatever the number of processes.
        micro_batch_size: samples a process takes at once; the rest is accumulated.
        num_processes: how many the recipe is meant for; only a note, any number works.
        optimizer: adamw, or adamw8bit (bitsandbytes). offload_optimizer: moments and the step on
            the CPU.
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
    num_freqs: ClassVar[int] = AdapterOptions.num_freqs
    temperature: ClassVar[float] = AdapterOptions.temperature
    placeholder: ClassVar[str] = AdapterConfig.placeholder
    placeholder_token_id: ClassVar[int] = AdapterConfig.placeholder_token_id
    name: str
    summary: str = ""
    base_family: str = "sd2"
    random_base: bool = False
    resolution: int = 512
    adapter: bool = True
    image_cls: bool = True
    map_loss: str = "balanced_l1"
    map_loss_weight: float = 0.01
    text_encoder: str = "full"
    text_lora_rank: int = 32
    token_table: bool = True
    cross_attention_kv: bool = True
    conv_in: bool = True
    drop_text: float = 0.05
    drop_image: float = 0.05
    drop_both: float = 0.05
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
        for name, choices in _CHOICES.items():
            self._require_choice(name, choices)
        for name in _AT_LEAST_ONE:
            self._require(name, getattr(self, name) >= 1, "1 or more")
        for name in _SHARES:
            self._require(name, 0 <= getattr(self, name) <= 1, "a share from 0 to 1")
        self._require("ema_decay", 0 <= self.ema_decay < 1, "0 (none) or a decay below 1")
        self._require("learning_rate", self.learning_rate > 0, "a number above 0")
        self._require("num_subjects", self.num_subjects <= MAX_SUBJECTS, f"1 to {MAX_SUBJECTS}")
        multiple = 8 * LATENT_DOWNSCALE if self.base_family != "tiny" else 2 * LATENT_DOWNSCALE
        self._require(
            "resolution", self.resolution % multiple == 0, f"a multiple of {multiple} pixels"
        )
        self._refuse_wrong_combinations()

    def _refuse_wrong_combinations(self) -> None:
        """What each setting alone allows, but not together."""
        whole = self.global_batch_size % self.micro_batch_size == 0
        self._require(
            "micro_batch_size", whole, f"a divisor of global_batch_size {self.global_batch_size}"
        )
        dropped = self.drop_text + self.drop_image + self.drop_both
        self._require("drop_both", dropped <= 1, "drop_text + drop_image + drop_both up to 1")
        self._require(
            "location_control",
            self.conv_in or not self.location_control,
            "False where conv_in is not trained",
        )
        follows = self.image_cls or self.cross_attention_kv or self.text_encoder != "frozen"
        self._require(
            "map_loss",
            self.map_loss == "off" or follows,
            "off where neither CLS, text nor K/V is trained: nothing could follow it",
        )
        conditioned = self.location_control or self.adapter or self.image_cls
        self._require(
            "adapter", conditioned, "at least one of adapter, image_cls, location_control"
        )
        positions = self.patch_positions or self.query_positions
        self._require(
            "adapter", self.adapter or not positions, "True with patch or query positions"
        )
        self._require(
            "warmup_steps", 0 <= self.warmup_steps <= self.steps, f"0 to steps ({self.steps})"
        )
        self._require(
            "offload_optimizer",
            not (self.offload_optimizer and self.optimizer == "adamw8bit"),
            "False with adamw8bit, whose moments live on the GPU",
        )

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
