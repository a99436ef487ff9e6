"""What a step of sampling costs, as ratios within one run: plain, with two and three branches, with
an interval for guidance, with 1 to 8 subjects, in batches of 1 and 8, and diffusers' gated UNet.

`python -m benchmarks.sampling` (COMFYUI_PATH names the ComfyUI) prints a table in Markdown: counted
arithmetic and time, both in the unit of a plain step of ComfyUI with guidance, which has two
branches. Time is that of the processor, on one thread, so that other programs count little. All
models have random weights and Stable Diffusion 2's layout at a fifth of its width, and a quarter of
its cells and of its tokens per subject: attention's share is as in the whole.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

TESTS = Path(__file__).resolve().parents[1] / "tests"
SIDE, NUM_PATCHES, MOST_SUBJECTS = 32, 64, 8
STEPS, INTERVAL = 10, (0.2, 0.8)
UNET: dict[str, Any] = {
    "sample_size": SIDE,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 2,
    "block_out_channels": (64, 128, 256, 256),
    "attention_head_dim": (1, 2, 4, 4),
    "cross_attention_dim": 192,
    "use_linear_projection": True,
}
TIMESTEP = 500


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Of a step of one case.

    Attributes:
        flop: floating point operations.
        seconds: the least of all rounds.
    """

    case: str
    batch: int
    subjects: int
    flop: float
    seconds: float


class Bench:
    """One base in ComfyUI, plain and with an adapter, and diffusers' gated UNet of its geometry."""

    def __init__(self, folder: Path, rounds: int) -> None:
        import factories
        import host_models
        from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

        self.rounds = rounds
        self.models = host_models
        host_models.FAMILIES["bench"] = UNET
        self.host = host_models.Host(loaded_pack())
        unet = factories.make_unet(UNET)
        config = self.host.tiny_model.comfy_unet_config(unet.config)
        model = host_models._stock_model("sd2", unet, config, torch.float32, None)
        clip = self.host.tiny_model.build_clip(self.host.tiny)
        self.base = host_models.Base(config=UNET, unet=unet, model=model, clip=clip)
        loaded = self.host.make_adapter(
            self.base, folder, num_patches=NUM_PATCHES, num_subjects=1, patch_dim=200
        )
        self.loaded = loaded
        self.model, _ = self.host.apply_node.apply_adapter(model, clip, loaded)
        self.gated = UNet2DConditionModel(**UNET, attention_type="gated").eval()
        self.gated.position_net = nn.Identity()

    def noise(self, batch: int) -> torch.Tensor:
        return torch.randn(batch, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))

    def branches(self, subjects: int) -> list[Any]:
        """Positive, image-only and negative; without subjects, as of ComfyUI's own encoder."""
        made = []
        for seed, count in ((1, subjects), (2, subjects), (2, 0)):
            branch = self.branch(count) if subjects else None
            context = self.models.random_context(self.base, seed)
            made.append(self.host.conditioning(context, branch))
        return made

    def branch(self, count: int) -> Any:
        edges = torch.linspace(0.0, 0.5, MOST_SUBJECTS)[:count, None]
        generator = torch.Generator().manual_seed(count)
        config = self.loaded.config
        slots = max(count, 1) if count else 0
        return self.host.branches.BranchSubjects(
            adapter=self.loaded.adapter,
            patch_embeds=torch.randn(slots, NUM_PATCHES, config.patch_dim, generator=generator),
            subject_boxes_xyxy=torch.cat((edges, edges, edges + 0.5, edges + 0.5), dim=1),
            subject_valid=torch.ones(slots, dtype=torch.bool),
            token_strengths=torch.ones(slots),
        )

    def cfg(self, subjects: int) -> Any:
        """ComfyUI's own guider; 0 subjects: on the base model."""
        positive, _, negative = self.branches(subjects)
        return self.models.cfg_guider(
            self.model if subjects else self.base.model, positive, negative, 4.0
        )

    def guider(self, subjects: int, scales: tuple[float, float] = (4.0, 3.0)) -> Any:
        guider = self.host.guider_node.ThreeBranchGuider(self.model)
        guider.set_branches(*self.branches(subjects))
        guider.set_scales(*scales)
        return guider

    def step(self, case: str, guider: Any, batch: int, subjects: int) -> Cost:
        """A step in mid-run: what a run computes once is not in it."""
        import comfy.samplers

        noise, measured = self.noise(batch), Measured()

        def sampler(model: Any, x: torch.Tensor, sigmas: torch.Tensor, **kwargs: Any) -> Any:
            def call() -> None:
                model(x, sigmas[0] * x.new_ones(x.shape[0]), **kwargs["extra_args"])

            call()
            measured.measure(call, self.rounds)
            return x

        sigma = guider.model_patcher.get_model_object("model_sampling").sigmas[TIMESTEP]
        sigmas = torch.stack((sigma, torch.zeros(())))
        kind = comfy.samplers.KSAMPLER(sampler)
        guider.sample(noise, torch.zeros_like(noise), kind, sigmas, seed=0, disable_pbar=True)
        return measured.cost(case, batch, subjects, 1)

    def run(self, case: str, guider: Any, batch: int, subjects: int) -> Cost:
        """The mean step of a whole run."""
        noise, measured = self.noise(batch), Measured()
        measured.measure(lambda: self.models.sample(guider, noise, steps=STEPS), self.rounds)
        return measured.cost(case, batch, subjects, STEPS)

    def diffusers_step(self, branches: int, batch: int, subjects: int) -> Cost:
        """A call of the gated UNet, which is all that a step of a pipeline computes."""
        rows, measured = branches * batch, Measured()
        x = torch.randn(rows, 4, SIDE, SIDE)
        text = torch.randn(rows, 77, UNET["cross_attention_dim"])
        tokens = torch.randn(rows, subjects * NUM_PATCHES, UNET["cross_attention_dim"])
        gligen = {"input": tokens}

        def call() -> None:
            self.gated(x, TIMESTEP, text, cross_attention_kwargs={"gligen": gligen})

        call()
        measured.measure(call, self.rounds)
        return measured.cost(f"diffusers' gated UNet, {branches} branches", batch, subjects, 1)


class Measured:
    """Arithmetic and time of one piece of work."""

    def measure(self, work: Callable[[], object], rounds: int) -> None:
        taken = []
        for _ in range(rounds):
            began = time.process_time()
            work()
            taken.append(time.process_time() - began)
        self.seconds = min(taken)
        # the counter has no formula for the CPU's fused attention
        with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
            work()
        self.flop = float(counter.get_total_flops())

    def cost(self, case: str, batch: int, subjects: int, steps: int) -> Cost:
        return Cost(
            case=case,
            batch=batch,
            subjects=subjects,
            flop=self.flop / steps,
            seconds=self.seconds / steps,
        )


def loaded_pack() -> Any:
    """The pack's root module as ComfyUI imported it."""
    import conftest

    nodes: Any = importlib.import_module("nodes")
    asyncio.run(nodes.init_extra_nodes(init_custom_nodes=True, init_api_nodes=False))
    link = str(conftest.BASE / "custom_nodes" / conftest.PACK_NAME)
    return next(
        sys.modules[name] for name in (link.replace(".", "_x_"), link) if name in sys.modules
    )


def costs_of_batch(bench: Bench, batch: int, counts: Sequence[int]) -> Iterator[Cost]:
    """The plain step first."""
    yield bench.step("plain, 2 branches", bench.cfg(0), batch, 0)
    for subjects in counts:
        yield bench.step("KSampler, 2 branches", bench.cfg(subjects), batch, subjects)
        yield bench.step("Guider, 3 branches", bench.guider(subjects), batch, subjects)
        for branches in (2, 3) if batch == 1 else (3,):
            yield bench.diffusers_step(branches, batch, subjects)


def costs_of_runs(bench: Bench, subjects: int) -> Iterator[Cost]:
    """What leaves branches out: equal scales, and an interval for guidance."""
    equal = bench.guider(subjects, (4.0, 4.0))
    yield bench.step("Guider at equal scales, 2 branches", equal, 1, subjects)
    limited, mean = bench.guider(subjects), f"Guider, mean of {STEPS} steps"
    yield bench.run(mean, limited, 1, subjects)
    limited.set_range(*INTERVAL)
    yield bench.run(f"{mean}, guidance from 0.2 to 0.8", limited, 1, subjects)


def table(costs: Sequence[Cost]) -> str:
    """Markdown; the first of each batch is the unit of those after it."""
    lines = ["| batch | subjects | step | arithmetic | time |", "|---|---|---|---|---|"]
    unit = costs[0]
    for cost in costs:
        if cost.batch != unit.batch:
            unit = cost
        lines.append(
            f"| {cost.batch} | {cost.subjects} | {cost.case} | {cost.flop / unit.flop:.2f} | "
            f"{cost.seconds / unit.seconds:.2f} |"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="of which the shortest counts")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    sys.path[:0] = [str(TESTS / "host"), str(TESTS)]
    import conftest

    costs: list[Cost] = []
    try:
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            bench = Bench(Path(folder), options.rounds)
            for cost in itertools.chain(
                costs_of_batch(bench, 1, (1, 2, 4, 8)),
                costs_of_runs(bench, 1),
                costs_of_batch(bench, 8, (1, 8)),
            ):
                print(table([*costs[:1], cost]).splitlines()[-1], file=sys.stderr, flush=True)
                costs.append(cost)
    finally:
        conftest.pytest_unconfigure()
    print(f"`python -m benchmarks.sampling --rounds {options.rounds}`:\n")
    print(table(costs))
    plain = costs[0]
    print(
        f"\nThe unit is a plain step: {plain.flop / 1e9:.2f} GFLOP and {plain.seconds:.2f} s for "
        "one picture on one thread."
    )


if __name__ == "__main__":
    main(sys.argv[1:])
