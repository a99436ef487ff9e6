"""Loading the pack is cheap and pulls nothing heavy into ComfyUI."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = """
import asyncio, json, sys, time
start = time.process_time()  # not the clock: the computer may be busy with other work
from comfy.cli_args import args
args.cpu = True
args.base_directory = sys.argv[2]
import nodes
before = set(sys.modules)
between = time.process_time()
loaded = asyncio.run(nodes.load_custom_node(sys.argv[1]))
share = (time.process_time() - between) / (between - start)
names = [n for n in nodes.NODE_CLASS_MAPPINGS if n.startswith("SubjectDiffusion")]
print(json.dumps([loaded, share, sorted(set(sys.modules) - before), names]))
"""
HEAVY = ("diffusers", "open_clip", "segment_anything", "training", "torchvision", "kornia")
NODE_IDS = [
    "SubjectDiffusionTinyLoader",
    "SubjectDiffusionAdapterLoader",
    "SubjectDiffusionSubject",
    "SubjectDiffusionLayout",
    "SubjectDiffusionReferenceView",
    "SubjectDiffusionEncode",
    "SubjectDiffusionApply",
    "SubjectDiffusionGuider",
    "SubjectDiffusionInterpolate",
    "SubjectDiffusionBoxMask",
    "SubjectDiffusionSegmentLoader",
    "SubjectDiffusionSegment",
    "SubjectDiffusionCutOut",
    "SubjectDiffusionRecordAttention",
    "SubjectDiffusionAttentionMaps",
    "SubjectDiffusionEncodeSubjects",
    "SubjectDiffusionSaveSubjects",
    "SubjectDiffusionLoadSubjects",
    "SubjectDiffusionSelfSubjectAttention",
    "SubjectDiffusionDreamTunerGuider",
    "SubjectDiffusionTuneEmbedding",
    "SubjectDiffusionApplyEmbedding",
    "SubjectDiffusionSaveEmbedding",
    "SubjectDiffusionLoadEmbedding",
    "SubjectDiffusionReferenceGuidedSampler",
    "SubjectDiffusionReplacementSampler",
]


def test_the_pack_loads_fast_and_light(comfyui_folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(ROOT), str(tmp_path)]
    result = subprocess.run(command, cwd=comfyui_folder, capture_output=True, text=True, check=True)
    loaded, share, added, names = json.loads(result.stdout.splitlines()[-1])
    assert loaded
    assert names == NODE_IDS
    assert [name for name in added if name.split(".")[0] in HEAVY] == []
    assert [name for name in added if "/training" in name] == []
    assert share < 0.25, f"{share:.2f} of what ComfyUI itself takes"


def test_the_root_package_needs_no_comfyui(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys;"
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r});"
        "module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module);"
        "assert callable(module.comfy_entrypoint);"
        "assert not [n for n in sys.modules if n.split('.')[0] in ('comfy', 'torch', 'nodes')]"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
