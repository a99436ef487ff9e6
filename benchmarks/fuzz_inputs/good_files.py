"""Files and pictures that are right: what is broken starts from them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from devtools.api_client import Graph
from devtools.workflows import node
from subject_diffusion_core.ip_attention import ImageProjection

from ..golden_latents.model_files import WEIGHTS, make_sam
from .good_graph import ADAPTER, good_graph, needed_for
from .methods_graph import SEGMENTER

CONTEXT_DIM, WIDTH = 768, 64  # of an IP-Adapter's tokens, and of a layer of its UNet


@dataclass(frozen=True, kw_only=True)
class FileKind:
    """A kind of files that the pack reads.

    Attributes:
        folder: below models.
        good: where a good one lies, below ComfyUI's base folder; may have a *.
    """

    folder: str
    good: str

    @property
    def extension(self) -> str:
        return Path(self.good).suffix


ADAPTERS, SUBJECTS = "subject_diffusion", "subject_diffusion_embeds"
TUNED, SEGMENTERS = "subject_diffusion_tuned", "sams"
KINDS = (
    FileKind(folder=ADAPTERS, good=f"models/{ADAPTERS}/{ADAPTER}"),
    FileKind(folder=ADAPTERS, good=f"models/{ADAPTERS}/ip_adapter.safetensors"),
    FileKind(folder=ADAPTERS, good=f"models/{ADAPTERS}/ip_adapter.bin"),
    FileKind(folder=SUBJECTS, good=f"output/{SUBJECTS}/fuzz*.safetensors"),
    FileKind(folder=TUNED, good=f"output/{TUNED}/fuzz*.safetensors"),
    FileKind(folder=SEGMENTERS, good=f"models/{SEGMENTERS}/{SEGMENTER}"),
    FileKind(folder=SEGMENTERS, good=f"models/{SEGMENTERS}/small_sam.pth"),
)


def make_files(models: Path) -> None:
    """The good files, but those that nodes save themselves."""
    for kind in KINDS:
        (models / kind.folder).mkdir(parents=True, exist_ok=True)
    adapter_file = models / ADAPTERS / ADAPTER
    adapter_file.unlink(missing_ok=True)  # it may be a link to the pack's own
    shutil.copy(WEIGHTS / ADAPTER, adapter_file)
    sam = make_sam().state_dict()
    save_file(sam, models / SEGMENTERS / SEGMENTER)
    torch.save(sam, models / SEGMENTERS / "small_sam.pth")
    adapter = make_ip_adapter()
    flat = {f"{part}.{name}": one for part, own in adapter.items() for name, one in own.items()}
    save_file(flat, models / ADAPTERS / "ip_adapter.safetensors")
    torch.save(adapter, models / ADAPTERS / "ip_adapter.bin")


def make_ip_adapter() -> dict[str, dict[str, torch.Tensor]]:
    """As its makers' files for Stable Diffusion 1.5, with all layers of one width."""
    generator = torch.Generator().manual_seed(3)
    layers = {
        f"{number}.to_{letter}_ip.weight": torch.randn(WIDTH, CONTEXT_DIM, generator=generator)
        for number in range(1, 32, 2)
        for letter in "kv"
    }
    image = ImageProjection(WIDTH, CONTEXT_DIM).state_dict()
    return {"image_proj": image, "ip_adapter": layers}


def content_of(kind: FileKind, base: Path) -> bytes:
    """Of the good file of a kind."""
    return next(base.glob(kind.good)).read_bytes()


def graph_with_file(kind: FileKind, name: str) -> Graph:
    """A graph that uses a file of a kind."""
    graph = good_graph(1)
    if kind.folder == SUBJECTS:
        graph["file"] = node("SubjectDiffusionLoadSubjects", file_name=name)
        graph["layout"]["inputs"]["subjects"] = ["file", 0]
    elif kind.folder == TUNED:
        graph["file"] = node("SubjectDiffusionLoadEmbedding", file_name=name)
        graph["tuned"]["inputs"]["embedding"] = ["file", 0]
        return needed_for(graph, "show_tuned")
    elif kind.folder == SEGMENTERS:
        graph["segmenter"]["inputs"]["segmenter_name"] = name
        return needed_for(graph, "show_cut_out")
    else:
        graph["file"] = node("SubjectDiffusionAdapterLoader", adapter_name=name)
        for one in graph.values():
            if "adapter" in one["inputs"]:
                one["inputs"]["adapter"] = ["file", 0]
    return needed_for(graph, "save")


def make_pictures(folder: Path) -> None:
    """A cut-out, an opaque picture of another size, and odd ones."""
    random_numbers = np.random.default_rng(0)
    pixels = random_numbers.integers(0, 255, (48, 40, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[8:40, 6:30, 3] = 255
    whole = Image.fromarray(pixels[:30, :, :3], "RGB")
    Image.fromarray(pixels, "RGBA").save(folder / "cutout.png")
    whole.save(folder / "opaque.png")
    whole.convert("L").save(folder / "grey.png")
    whole.crop((0, 0, 1, 1)).save(folder / "one_pixel.png")
    whole.resize((4000, 2)).save(folder / "wide.png")
    whole.convert("P").save(folder / "palette.png", transparency=0)
    turned = Image.Exif()
    turned[0x0112] = 6
    whole.save(folder / "sideways.jpg", exif=turned)
    frames = [whole.rotate(angle) for angle in range(0, 360, 15)]
    whole.save(folder / "animated.gif", save_all=True, append_images=frames)
