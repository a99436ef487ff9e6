"""What self-subject-attention costs next to the plain step, as a ratio within one run.

`python -m benchmarks.self_subject_attention count`: arithmetic at the full geometry of Stable
Diffusion 1.5 (512 x 512) and XL (1024 x 1024), on tensors without content; seconds, and hardly any
memory. `... time`: a Stable Diffusion 1.5 of random weights, through ComfyUI's sampling on the CPU;
4.5 GB. It is processor time, so that little of it depends on what else runs; with
OMP_NUM_THREADS=1 no thread waits for another. COMFYUI_PATH names the ComfyUI.
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from .full_geometry import SD15, SDXL, make_base
from .structure.in_process import in_process_host, pack_module

FOREGROUND = 0.3


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of one case, in the unit of the plain step beside it; several numbers: one a round."""

    case: str
    plain: tuple[float, ...]
    ours: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """The median of the rounds' own ratios."""
        return statistics.median(
            ours / plain for ours, plain in zip(self.ours, self.plain, strict=True)
        )


class Bench:
    """A model of one geometry, with and without self-subject-attention, inside ComfyUI."""

    def __init__(self, family: str, config: dict[str, Any], side: int, device: str) -> None:
        self.device, self.side, self.config = torch.device(device), side, config
        self.base = make_base(family, config, self.device)
        patcher: Any = importlib.import_module("comfy.model_patcher").ModelPatcher
        cpu = torch.device("cpu")
        self.plain = patcher(self.base, load_device=cpu, offload_device=cpu)
        self.seeing = self._attach(self.plain.clone())

    def _attach(self, model: Any) -> Any:
        geometry = pack_module("host.unet_geometry")
        reference_pass = pack_module("dreamtuner.reference_pass")
        subject_attention = pack_module("dreamtuner.subject_attention")
        locations = frozenset(geometry.transformer_block_locations(model).values())
        settings = reference_pass.PassSettings(locations=locations, noise="fixed", noise_seed=0)
        subject_attention.attach_self_subject_attention(model, settings, 0.0, 1.0)
        return model

    def subject(self, foreground: float) -> Any:
        """One picture of the generated one's size, a share of it subject."""
        references = pack_module("dreamtuner.references")
        mask = torch.zeros(8 * self.side, 8 * self.side)
        mask[: round(foreground * 8 * self.side)] = 1
        reference = references.Reference(
            latent=torch.zeros(1, 4, self.side, self.side), mask=mask, caption=self.text(2)
        )
        return references.ReferencedSubject(
            omega=3.0,
            pictures=(reference,),
            box_xyxy=None,
            region=None,
            start_percent=0.0,
            end_percent=1.0,
        )

    def text(self, seed: int) -> Any:
        generator = torch.Generator().manual_seed(seed)
        return [[torch.randn(1, 77, self.config["context_dim"], generator=generator), {}]]


class Counter(Bench):
    """Counts the arithmetic of single UNet calls."""

    def call(self, model: Any, rows: int, **options: Any) -> float:
        """Floating point operations of a call with `rows` samples."""
        x = torch.zeros(rows, 4, self.side, self.side, device="meta")
        context = torch.zeros(rows, 77, self.config["context_dim"], device="meta")
        adm = self.config["adm_in_channels"]
        y = None if adm is None else torch.zeros(rows, adm, device="meta")
        timesteps = torch.zeros(rows, device="meta")
        basic = importlib.import_module("comfy.ldm.modules.attention").attention_basic
        transformer_options = {
            **model.model_options.get("transformer_options", {}),
            "wrappers": model.wrappers,
            "optimized_attention_override": lambda function, *args, **kwargs: basic(
                *args, **{**kwargs, "_inside_attn_wrapper": True}
            ),
            **options,
        }
        with FlopCounterMode(display=False) as counter:
            self.base.diffusion_model(
                x, timesteps, context=context, y=y, transformer_options=transformer_options
            )
        return float(counter.get_total_flops())

    def pass_and_seen(self, foreground: float, rows: int) -> tuple[float, dict[str, Any], int]:
        """The cost of the pass over a reference, the options of calls that see its keys, and the
        bytes that these keys and their values take in half precision."""
        reference_pass = pack_module("dreamtuner.reference_pass")
        sampling_run = pack_module("host.sampling_run")
        subject = self.subject(foreground)
        locations = frozenset(
            pack_module("host.unet_geometry").transformer_block_locations(self.plain).values()
        )
        keys = reference_pass.ReferenceKeys(subject.pictures[0], locations)
        cost = self.call(self.seeing, 1, **{reference_pass.WRITE_KEY: keys})
        references = pack_module("dreamtuner.references").BranchReferences(subjects=(subject,))
        run = sampling_run.SamplingRun((self.side, self.side))
        branch_cond = pack_module("host.run_attachment").BranchCond
        part = branch_cond(value=references, run=run, batch_size=rows)
        seen = reference_pass.SeenReferences(
            call=part.concat([]),
            subjects={references: (reference_pass.SeenSubject(subject, (keys,)),)},
        )
        numbers = sum(layer.key.numel() + layer.value.numel() for layer in keys.layers.values())
        return cost, {reference_pass.READ_KEY: seen}, 2 * numbers


def counted(family: str, config: dict[str, Any], side: int) -> list[Cost]:
    counter = Counter(family, config, side, "meta")
    plain_row = counter.call(counter.plain, 1)
    costs = []
    for title, foreground in (("all keys", 1.0), (f"{FOREGROUND:.0%} foreground", FOREGROUND)):
        reference, one, _ = counter.pass_and_seen(foreground, 1)
        seeing_row = counter.call(counter.seeing, 1, **one)
        step = 2 * plain_row
        cases = {
            "CFG, one shared reference": reference + 2 * seeing_row,
            "the same, keys known": 2 * seeing_row,
            "eq. 4 (with and without reference)": reference + seeing_row + plain_row,
            "eq. 5, both time biases": 2 * reference + 2 * seeing_row,
            "expected, three branches": reference + 2 * seeing_row + plain_row,
        }
        costs += [
            Cost(case=f"{case}, {title}", plain=(step,), ours=(cost,))
            for case, cost in cases.items()
        ]
        batch = reference + 8 * seeing_row
        costs.append(Cost(case=f"batch of 4, {title}", plain=(8 * plain_row,), ours=(batch,)))
    return costs


def kept_bytes(family: str, config: dict[str, Any], side: int, foreground: float) -> int:
    """Of one picture's keys and values at one noise level, in half precision."""
    return Counter(family, config, side, "meta").pass_and_seen(foreground, 1)[2]


class Timer(Bench):
    """Times model calls through ComfyUI's sampling, with random weights."""

    def __init__(self, side: int, attention: str) -> None:
        super().__init__("SD15", SD15, side, "cpu")
        if attention != "default":
            kernels = importlib.import_module("comfy.ldm.modules.attention")
            kernel = getattr(kernels, f"attention_{attention}")
            for model in (self.plain, self.seeing):
                model.model_options["transformer_options"]["optimized_attention_override"] = (
                    lambda function, *args, **kwargs: kernel(
                        *args, **{**kwargs, "_inside_attn_wrapper": True}
                    )
                )
        with torch.no_grad():
            for parameter in self.base.diffusion_model.parameters():
                parameter.normal_(0.0, 0.02)

    def seconds(self, batch: int, foreground: float | None) -> list[float]:
        """Of a first and a second model call with CFG, at one noise level, in processor time."""
        positive, negative, model = self.text(0), self.text(1), self.plain
        if foreground is not None:
            references = pack_module("dreamtuner.references")
            seen = references.BranchReferences(subjects=(self.subject(foreground),))
            model = self.seeing
            positive, negative = (references.with_references(t, seen) for t in (positive, negative))
        samplers: Any = importlib.import_module("comfy.samplers")
        guider = samplers.CFGGuider(model)
        guider.set_conds(positive, negative)
        guider.set_cfg(7.0)
        taken = []

        def sampler(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> Any:
            for _ in range(2):
                began = time.process_time()
                model(x, sigmas[0] * x.new_ones(x.shape[0]), **kwargs["extra_args"])
                taken.append(time.process_time() - began)
            return x

        noise = torch.randn(batch, 4, self.side, self.side)
        sigmas = torch.tensor([5.0, 0.0])
        guider.sample(noise, torch.zeros_like(noise), samplers.KSAMPLER(sampler), sigmas, seed=0)
        return taken


def timed(side: int, rounds: int, attention: str, batches: Sequence[int]) -> list[Cost]:
    """In every round each case beside a plain run of its own batch."""
    timer = Timer(side, attention)
    timer.seconds(1, 1.0)  # whatever only a first call does
    costs = []
    for batch in batches:
        title = "CFG, one shared reference" if batch == 1 else f"batch of {batch}"
        runs = [
            [timer.seconds(batch, foreground) for foreground in (None, 1.0, FOREGROUND)]
            for _ in range(rounds)
        ]
        for which, share in ((1, "all keys"), (2, f"{FOREGROUND:.0%} foreground")):
            for call, suffix in enumerate(("", ", keys known")):
                plain, ours = (tuple(run[index][call] for run in runs) for index in (0, which))
                costs.append(Cost(case=f"{title}, {share}{suffix}", plain=plain, ours=ours))
    return costs


def show(title: str, costs: Sequence[Cost], unit: str, scale: float) -> None:
    print(f"\n{title}")
    for cost in costs:
        print(
            f"  {cost.ratio:5.2f} x plain  ({statistics.median(cost.plain) * scale:8.2f} -> "
            f"{statistics.median(cost.ours) * scale:8.2f} {unit})  {cost.case}"
        )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("count", "time"))
    parser.add_argument("--size", type=int, default=512, help="of the pictures that are timed")
    parser.add_argument("--rounds", type=int, default=3, help="time: of which the median counts")
    parser.add_argument(
        "--batch", type=int, nargs="+", default=[1, 4], help="time: pictures of a step"
    )
    parser.add_argument(
        "--attention",
        choices=("default", "pytorch", "split"),
        default="default",
        help="which of ComfyUI's attention kernels is timed; default: what it takes on a CPU",
    )
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory() as folder,
        in_process_host(Path(folder)),
        torch.inference_mode(),
    ):
        if options.what == "time":
            size = f"{options.size} x {options.size}, {torch.get_num_threads()} threads"
            costs = timed(options.size // 8, options.rounds, options.attention, options.batch)
            title = f"Stable Diffusion 1.5, {size}, {options.attention} attention"
            show(title, costs, "s", 1.0)
        else:
            for title, family, config, side in (
                ("Stable Diffusion 1.5, 512 x 512", "SD15", SD15, 64),
                ("Stable Diffusion XL, 1024 x 1024", "SDXL", SDXL, 128),
            ):
                show(title, counted(family, config, side), "TFLOP", 1e-12)
                for foreground in (1.0, FOREGROUND):
                    megabytes = kept_bytes(family, config, side, foreground) / 1e6
                    print(
                        f"  {megabytes:5.1f} MB a picture and noise level, {foreground:.0%} of it"
                    )


if __name__ == "__main__":
    main(sys.argv[1:])
