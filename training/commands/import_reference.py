"""``python -m training import-reference``: weights of the authors' public code for ComfyUI."""

from __future__ import annotations

import argparse

from .options import add_path

HELP = """\
make an adapter file of weights from the authors' public code

Turns the four files of the authors' training code into one adapter file.

Example
  python -m training import-reference --unet unet/diffusion_pytorch_model.safetensors \\
      --text-encoder clip_text/model.safetensors --mlp mlp.bin --proj proj.bin --out a.safetensors

Nothing is unpickled except plain tensors. The adapter keeps the reference's rules: its mask is
1 outside the boxes, its null tokens are zeros.
"""
FILES = {
    "unet": "the gated UNet with 5 input channels",
    "text-encoder": "the retrained CLIP text model",
    "mlp": "projector of the image embedding",
    "proj": "grounding net",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """The four files, and the one to write."""
    for name, text in FILES.items():
        add_path(parser, f"--{name}", text, required=True)
    parser.add_argument("--num-subjects", type=int, default=2, help="slots it was trained with")
    add_path(parser, "--out", "the file to write", required=True)


def run(arguments: argparse.Namespace) -> None:
    """Read, check, write."""
    from subject_diffusion_core import checkpoint

    paths = {name: getattr(arguments, name.replace("-", "_")) for name in FILES}
    for name, path in paths.items():
        if not path.is_file():
            raise FileNotFoundError(
                f"--{name}: expected a file, got {path}, where none is. Correct the path."
            )
    unet, text_encoder, mlp, proj = paths.values()
    adapter = checkpoint.import_reference(
        unet, text_encoder, mlp, proj, num_subjects=arguments.num_subjects
    )
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.save(arguments.out, adapter)
    print(f"{arguments.out}: {adapter.config.base_family}, {adapter.config.num_subjects} subjects")
