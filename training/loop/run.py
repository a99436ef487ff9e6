"""One training run, from the command line's arguments to the last checkpoint."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from ..bases.encoders import FrozenEncoders
from ..bases.loading import load_base
from ..bases.vision import load_vision, vision_shape
from ..dataset.batches import BatchStream, MicroBatch
from ..dataset.catalogue import Catalogue, open_catalogue
from ..dataset.samples import SubjectDataset
from ..methods.objective import Objective, sample_seed
from ..methods.registry import assemble
from ..networks.fused_attention import WatchedTokens, use_fused_attention
from ..runs import save_picture
from .checkpoints import Snapshot, load_snapshot, newest_intact, remove_partial, save_snapshot
from .launch import (
    RunOptions,
    announce,
    check_config,
    make_accelerator,
    only_writer,
    require_own_features,
    shared_catalogue,
    write_config,
)
from .optimizers import NamedParameters, WeightAverage, build_optimizer, learning_rate, trainable
from .progress import Progress
from .sharding import (
    in_pieces_like,
    optimizer_state_in_pieces,
    scalars_to_vectors,
    whole,
    with_scalars,
)
from .sheets import SheetMaker, load_sheet_samples
from .stopping import RunStopped, StopRequest

MAX_BAD_STEPS = 10
MakeRun = Callable[[RunOptions, Accelerator, Catalogue], "Run"]


def train(options: RunOptions, make_run: MakeRun | None = None) -> None:
    """Train to the recipe's last step, going on from the newest checkpoint.

    ``make_run`` builds another kind of run than :class:`Run`.
    """
    recipe = options.recipe
    accelerator = make_accelerator(recipe)
    recipe.accumulation(accelerator.num_processes)
    lock = only_writer(options.out) if accelerator.is_main_process else contextlib.nullcontext()
    with lock:
        catalogue = shared_catalogue(options.data, options.out / "index", accelerator)
        if accelerator.is_main_process:
            check_config(options.out, recipe, options.file_marks())
            remove_partial(options.out)
            announce(options, catalogue, accelerator)
        accelerator.wait_for_everyone()
        run = (make_run or Run)(options, accelerator, catalogue)
        if accelerator.is_main_process:
            write_config(options.out, recipe, options.places(), options.file_marks())
        run.go()
    accelerator.end_training()


class Run:
    """The state of a run in progress."""

    def __init__(self, options: RunOptions, accelerator: Accelerator, catalogue: Catalogue) -> None:
        self.options, self.recipe = options, options.recipe
        self.accelerator, self.catalogue = accelerator, catalogue
        self.base = options.base_model or load_base(options.base, self.recipe)
        self.vision_shape = vision_shape(self.recipe, self.base)
        if options.base_model is None and accelerator.is_main_process:
            require_own_features(catalogue.features, self.base, self.recipe, options.vision)
        self.dataset = SubjectDataset(catalogue, self.recipe, self.vision_shape, self.base)
        self.step = self.bad_steps = self.num_skipped = 0
        self.progress: Progress | None = None
        self.build()
        self.resume()

    def build(self) -> None:
        """Model, optimiser, average, objective."""
        recipe, device = self.recipe, self.accelerator.device
        model = assemble(recipe, self.base, self.vision_shape, self.options.init)
        self.base = replace(self.base, unet={}, text={})  # the model has them now
        watched = use_fused_attention(model.unet)
        model.to(device).train()
        self.scalars = scalars_to_vectors(model) if self.accelerator.is_fsdp2 else []
        optimizer = self.make_optimizer(trainable(model))
        self.model, self.optimizer = self.accelerator.prepare(model, optimizer)
        self.parameters = trainable(self.accelerator.unwrap_model(self.model))
        self.average = WeightAverage(self.parameters, recipe) if recipe.ema_decay else None
        self.objective = self.make_objective(watched, self.load_encoders())

    def make_optimizer(self, parameters: NamedParameters) -> torch.optim.Optimizer:
        """What takes the steps."""
        return build_optimizer(parameters, self.recipe)

    def make_objective(self, watched: WatchedTokens, encoders: FrozenEncoders) -> Objective:
        """What computes the loss of a step."""
        device = self.accelerator.device
        return Objective(self.model, watched, self.base, self.recipe, encoders, device)

    def load_encoders(self) -> FrozenEncoders:
        """VAE and image encoder, each only where the shards lack its results; in fp32, as
        `precompute` has them."""
        device = self.accelerator.device
        vae = None if self.dataset.use_latents else self.base.load_vae().to(device)
        if self.dataset.use_tokens:
            return FrozenEncoders(vae, None)
        vision = load_vision(self.options.vision, self.recipe, self.base).to(device)
        return FrozenEncoders(vae, vision)

    def resume(self) -> None:
        """Take up the newest whole checkpoint, if there is one."""
        folder = newest_intact(self.options.out)
        if folder is None:
            return
        snapshot = load_snapshot(folder)
        with torch.no_grad():
            for name, parameter in self.parameters:
                parameter.copy_(in_pieces_like(snapshot.weights[name], parameter))
        ordered = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer.load_state_dict(optimizer_state_in_pieces(snapshot.optimizer, ordered))
        if self.average is not None and snapshot.ema:
            self.average.load(snapshot.ema)
        self.step = snapshot.step
        self.bad_steps = snapshot.state["bad_steps"]
        self.num_skipped = snapshot.state["num_skipped"]
        if snapshot.state["counts"] != self.catalogue.counts and self.accelerator.is_main_process:
            warnings.warn(
                "--data: other shards than before; their order begins anew.", stacklevel=2
            )
        self.accelerator.print(f"going on from step {self.step}")

    def go(self) -> None:
        """All remaining steps; the first process shows how they go."""
        accelerator = self.accelerator
        if accelerator.is_main_process:
            recipe, out = self.recipe, self.options.out
            size = recipe.global_batch_size
            self.progress = Progress(out, recipe.steps, size, self.step, recipe)
        sheets = self.sheet_maker() if self.progress or accelerator.is_fsdp2 else None
        stream = BatchStream(
            self.dataset, self.step, accelerator.process_index, accelerator.num_processes
        )
        with StopRequest(self.options.minutes) as stop:
            self.take_steps(stream, sheets, stop)
        if self.progress is not None:
            self.progress.close()
            print(
                f"finished: {self.step} steps, {self.num_skipped} samples skipped. Next: "
                f"python -m training export --run {self.options.out} --out adapter.safetensors"
            )

    def take_steps(self, stream: BatchStream, sheets: SheetMaker | None, stop: StopRequest) -> None:
        """Step after step; one that is asked to stop ends with a checkpoint."""
        recipe, accelerator = self.recipe, self.accelerator
        while self.step < recipe.steps:
            torch.manual_seed(sample_seed(recipe.seed, 5, self.step, accelerator.process_index))
            values = self.train_step(stream.next_step())
            self.step += 1
            done = self.step == recipe.steps
            if self.progress is not None:
                self.progress.add(values)
                if self.step % recipe.log_every == 0 or done:
                    self.progress.report(self.step, rate=learning_rate(recipe, self.step - 1))
            if sheets is not None and self.step % recipe.sheet_every == 0:
                self.draw_sheet(sheets)
            stopped = self.over_processes(float(stop.asked)) > 0 and not done
            if self.step % recipe.checkpoint_every == 0 or done or stopped:
                self.save()
            if stopped:
                raise RunStopped(
                    f"stopped after step {self.step} of {recipe.steps}, which is kept. "
                    "The same command goes on from there."
                )

    def sheet_maker(self) -> SheetMaker | None:
        """What draws sample sheets: from `held-out` beside the data's folder, if it is there."""
        held_out = self.options.data.parent / "held-out"
        if not self.recipe.sheet_every or not self.recipe.has_references:
            return None
        if not any(held_out.glob("*.tar")):
            print(f"no sample sheets: no shards of held-out subjects in {held_out}")
            return None
        folder = self.options.out / "index-held-out"
        if self.accelerator.is_fsdp2:  # all processes draw, and open what the first one built
            catalogue = shared_catalogue(held_out, folder, self.accelerator)
        else:
            catalogue = open_catalogue(held_out, folder)
        dataset = SubjectDataset(catalogue, self.recipe, self.vision_shape, self.base, plain=True)
        samples = load_sheet_samples(dataset, self.recipe.sheet_subjects)
        if samples is None:
            return None
        model = self.accelerator.unwrap_model(self.model)
        vae = self.objective.encoders.vae or self.base.load_vae()
        empty_ids = dataset.tokens("", []).token_ids
        return SheetMaker(model, self.objective, vae, *samples, empty_ids)

    def draw_sheet(self, sheets: SheetMaker) -> None:
        """Draw a sheet, which the first process writes; a failure to write is only said."""
        with self.accelerator.autocast():
            sheet = sheets.draw()
        if self.progress is None:
            return
        path = self.options.out / "sheets" / f"step-{self.step:08d}.png"
        try:
            save_picture(path, sheet)
        except OSError as error:
            warnings.warn(f"{path}: not written ({error}).", stacklevel=2)
        else:
            self.progress.picture(self.step, "sheet", sheet)

    def train_step(self, micro_batches: list[MicroBatch]) -> dict[str, float]:
        """Gradients of all micro-batches, one optimiser step; the losses over all processes."""
        recipe, accelerator = self.recipe, self.accelerator
        self.note_skipped(micro_batches)
        mse_sum = maps_sum = torch.zeros((), device=accelerator.device)
        broken: list[str] = []
        for number, batch in enumerate(micro_batches):
            last = number == len(micro_batches) - 1
            waits = contextlib.nullcontext() if last else accelerator.no_sync(self.model)
            with waits:
                mse, maps = (value / len(micro_batches) for value in self.objective(batch))
                loss = mse + recipe.map_loss_weight * maps
                accelerator.backward(loss)
            mse_sum, maps_sum = mse_sum + mse.detach(), maps_sum + maps.detach()
            if not bool(loss.isfinite()):
                broken += batch.names
        norm = self.optimize(broken)
        if norm is None:
            return {"left_out": 1.0}
        mse, maps = (
            self.over_processes(float(v)) / accelerator.num_processes for v in (mse_sum, maps_sum)
        )
        return {"mse": mse, "maps": maps, "loss": mse + recipe.map_loss_weight * maps, "norm": norm}

    def optimize(self, broken: list[str]) -> float | None:
        """The optimiser's step, and the gradient's norm; None if that is not finite: then nothing
        changes."""
        accelerator, recipe = self.accelerator, self.recipe
        parameters = [p for _, p in self.parameters]
        norm = float(accelerator.clip_grad_norm_(parameters, recipe.gradient_norm_limit))
        if norm != norm or norm == float("inf"):
            self.optimizer.zero_grad()
            self.refuse_step(gather_object(broken))
            return None
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(recipe, self.step)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.average is not None:
            self.average.update(self.step)
        self.bad_steps = 0
        return norm

    def refuse_step(self, names: list[str]) -> None:
        """Count and name a step without finite gradients; many in a row end the run."""
        self.bad_steps += 1
        if self.progress is not None:
            shown = ", ".join(names[:4]) or "the gradients of finite losses"
            warnings.warn(
                f"step {self.step + 1}: not finite in {shown}; the step is left out.", stacklevel=2
            )
            self.progress.note("not finite", step=self.step + 1, samples=names)
        if self.bad_steps >= MAX_BAD_STEPS:
            raise FloatingPointError(
                f"step {self.step + 1}: expected finite losses, got {MAX_BAD_STEPS} steps in a row "
                "without. The last checkpoint is intact: lower learning_rate, or look at the "
                "samples named in events.jsonl."
            )

    def note_skipped(self, micro_batches: list[MicroBatch]) -> None:
        """Count and name samples that others stood in for."""
        skipped = [entry for batch in micro_batches for entry in batch.skipped]
        if self.over_processes(float(len(skipped))) == 0:
            return
        skipped = gather_object(skipped)
        self.num_skipped += len(skipped)
        if self.progress is not None:
            for name, reason in skipped:
                print(f"skipped {name}: {reason}", flush=True)
                self.progress.note("skipped", step=self.step + 1, sample=name, reason=reason)

    def over_processes(self, value: float) -> float:
        """Sum of a number over all processes."""
        if self.accelerator.num_processes == 1:
            return value
        tensor = torch.tensor(value, device=self.accelerator.device, dtype=torch.float64)
        reduced: Tensor = self.accelerator.reduce(tensor, reduction="sum")
        return float(reduced)

    def save(self) -> None:
        """Write a checkpoint from the first process; the others wait."""
        averages = self.average.state() if self.average is not None else {}
        weights, ema = (
            with_scalars(whole(tensors), self.scalars)
            for tensors in ({name: p.detach() for name, p in self.parameters}, averages)
        )
        optimizer = whole(self.optimizer.state_dict())
        if self.accelerator.is_main_process:
            state: dict[str, Any] = {
                "recipe": self.recipe.as_dict(),
                "bad_steps": self.bad_steps,
                "num_skipped": self.num_skipped,
                "counts": self.catalogue.counts,
                "features": self.catalogue.features,
                "versions": {"torch": torch.__version__},
            }
            snapshot = Snapshot(
                step=self.step, weights=weights, ema=ema, optimizer=optimizer, state=state
            )
            save_snapshot(self.options.out, snapshot, self.recipe.keep_checkpoints)
        self.accelerator.wait_for_everyone()
