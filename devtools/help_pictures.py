"""Makes the pictures of the help pages: small graphs, run in the real server."""

from __future__ import annotations

import copy
import json
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .api_client import ComfyClient, Graph
from .browser import find_browser
from .console import DevError, Progress, last_lines
from .jobs import GenerationSettings, Job, SubjectSpec
from .locale_texts import write_chinese_pages, write_english
from .sentence_catalogue import write_templates
from .server import LOOPBACK, ComfyServer
from .workflows import SAVE_NODE, generation_graph, node

SCREENSHOT = "SubjectDiffusionSegment"  # also on Segment Loader's page
# A user who has been here before.
NO_TOUR = {"Comfy.TutorialCompleted": True, "Comfy.InstalledVersion": "1.0.0"}
SEED = 11
LEFT, RIGHT = (0.04, 0.34, 0.48, 0.78), (0.52, 0.34, 0.96, 0.78)
PROMPT = "a crab and a guitar in a photo studio"
ONE_SUBJECT = {
    "owl": "an owl in a forest",
    "teddy-bear": "a teddy bear on a plain background",
    "dog-house": "a dog house on a misty meadow",
}
MIDDLE = (0.25, 0.25, 0.8, 0.8)


@dataclass(frozen=True)
class Panel:
    """What a graph saves, under a caption."""

    caption: str
    graph: Graph


class HelpGraphs:
    """The graphs behind every picture; `upload` puts a file on the server."""

    def __init__(self, upload: Callable[[Path], str], root: Path) -> None:
        self._upload = upload
        self._root = root

    def pictures(self) -> dict[str, list[Panel]]:
        """Name of a picture -> its panels; the name is that of the node whose page shows it."""
        two = self.two
        return {
            "SubjectDiffusionTinyLoader": [
                Panel(f'"{prompt}"', self.one(name, prompt)) for name, prompt in ONE_SUBJECT.items()
            ],
            "SubjectDiffusionAdapterLoader": [
                Panel("the base model alone", two(("apply", {"strength": 0.0}))),
                Panel("with the adapter", two()),
            ],
            "SubjectDiffusionSubject": [
                Panel("the subjects' pictures", self.shows(["view", 0])),
                Panel("their boxes", self.shows(["layout", 1])),
                Panel("the result", two()),
            ],
            "SubjectDiffusionLayout": [
                Panel("given boxes", self.shows(["layout", 1])),
                *(self.random_layout(seed) for seed in (1, 2)),
            ],
            "SubjectDiffusionReferenceView": [
                Panel("what the image encoder gets", self.shows(["view", 0]))
            ],
            "SubjectDiffusionEncode": [
                Panel(f'"... {scene}"', two(("encode", {"prompt": f"a crab and a guitar {scene}"})))
                for scene in ("in a photo studio", "in a forest", "on a plain background")
            ],
            "SubjectDiffusionApply": [
                Panel(f"strength {strength:g}", two(("apply", {"strength": strength})))
                for strength in (0.0, 0.5, 1.0)
            ],
            "SubjectDiffusionGuider": [
                Panel(f"image guidance {scale:g}", two(("guider", {"image_guidance_scale": scale})))
                for scale in (1.0, 2.5, 5.0)
            ],
            "SubjectDiffusionInterpolate": [
                Panel("alpha 0, 0.25, 0.5, 0.75, 1", self.golden("interpolation_strip"))
            ],
            "SubjectDiffusionBoxMask": [
                Panel("mask of the box", self.mask_of_the_photo()),
                Panel("put into a photo", self.golden("into_a_photo")),
            ],
            "SubjectDiffusionCutOut": [
                Panel("the picture", self.cut_out(None)),
                Panel("nothing said", self.cut_out("")),
                Panel("with a box", self.cut_out("0.2,0.35,0.8,0.95")),
            ],
            "SubjectDiffusionAttentionMaps": [
                Panel(f"{ranges} of the sampling", self.attention(ranges))
                for ranges in ("0-0.3", "0.3-1")
            ],
            "SubjectDiffusionEncodeSubjects": [
                Panel("from the pictures", self.with_encoded_subjects()),
                Panel("from the saved file", self.from_file()),
            ],
            "SubjectDiffusionSelfSubjectAttention": [
                Panel(f"omega_ref {omega:g}", self.self_subject_attention(omega_ref=omega))
                for omega in (0.0, 3.0, 8.0)
            ],
            "SubjectDiffusionDreamTunerGuider": [
                Panel(f"reference guidance {scale:g}", self.dreamtuner_guidance(scale))
                for scale in (1.0, 2.0, 4.0)
            ],
            **self.hifi_tuner(),
        }

    def hifi_tuner(self) -> dict[str, list[Panel]]:
        return {
            "SubjectDiffusionApplyEmbedding": [
                Panel(
                    f"strength {strength:g}",
                    self.changed("tuned_embedding", "ApplyEmbedding", strength=strength),
                )
                for strength in (0.0, 0.5, 1.0)
            ],
            "SubjectDiffusionReferenceGuidedSampler": [
                Panel(
                    f"num_updates {updates}",
                    self.changed("reference_guided", "ReferenceGuidedSampler", num_updates=updates),
                )
                for updates in (0, 3, 10)
            ],
            "SubjectDiffusionReplacementSampler": [
                Panel("with a mask", self.golden("subject_replacement")),
                Panel("without a mask", self.replaced_without_mask()),
            ],
        }

    def replaced_without_mask(self) -> Graph:
        graph = self.golden("subject_replacement")
        del _find(graph, "SubjectDiffusionReplacementSampler")["inputs"]["mask"]
        return graph

    def two(self, *changes: tuple[str, dict[str, Any]]) -> Graph:
        """A crab and a guitar; `changes` name nodes and the inputs they get instead."""
        folder = self._root / "assets" / "subjects"
        job = _job(
            PROMPT,
            SubjectSpec(image=folder / "crab.png", label="crab", box_xyxy=LEFT),
            SubjectSpec(image=folder / "guitar.png", label="guitar", box_xyxy=RIGHT),
        )
        graph = generation_graph(job, self._upload)
        for name, inputs in changes:
            graph[name]["inputs"] |= inputs
        return graph

    def one(self, name: str, prompt: str) -> Graph:
        """A single subject out of the sample pictures."""
        picture = self._root / "assets" / "subjects" / f"{name}.png"
        subject = SubjectSpec(image=picture, label=name.replace("-", " "), box_xyxy=MIDDLE)
        return generation_graph(_job(prompt, subject), self._upload)

    def shows(self, link: list[Any], *changes: tuple[str, dict[str, Any]]) -> Graph:
        """The same graph, saving another node's pictures; what they do not need does not run."""
        graph = self.two((SAVE_NODE, {"images": link}), *changes)
        graph["view"] = node(
            "SubjectDiffusionReferenceView", subjects=["subject_2", 0], adapter=["loader", 4]
        )
        return graph

    def mask_of_the_photo(self) -> Graph:
        """The mask with which `into_a_photo` works; the example shows it in a preview."""
        graph = self.golden("into_a_photo")
        (mask,) = (name for name, one in graph.items() if one["class_type"] == "MaskToImage")
        (save,) = (one for one in graph.values() if one["class_type"] == "SaveImage")
        save["inputs"]["images"] = [mask, 0]
        return graph

    def cut_out(self, box: str | None) -> Graph:
        """A photo and, with a box, what is cut out of it."""
        graph = {"photo": node("LoadImage", image="crab_on_a_lawn.png")}
        if box is not None:
            graph["cut"] = node(
                "SubjectDiffusionCutOut",
                image=["photo", 0],
                box=box,
                points="",
                largest_component=True,
                fill_holes=True,
            )
        source = ["photo" if box is None else "cut", 0 if box is None else 1]
        return graph | {SAVE_NODE: node("SaveImage", images=source, filename_prefix="help")}

    def random_layout(self, place_seed: int) -> Panel:
        changes = [(f"subject_{number}", {"box": ""}) for number in (1, 2)]
        places = ("layout", {"mode": "random", "place_seed": place_seed})
        graph = self.shows(["layout", 1], *changes, places)
        return Panel(f"mode random, place_seed {place_seed}", graph)

    def attention(self, ranges: str) -> Graph:
        graph = self.two(("guider", {"model": ["record", 0]}), (SAVE_NODE, {"images": ["maps", 0]}))
        graph["record"] = node("SubjectDiffusionRecordAttention", model=["apply", 0], ranges=ranges)
        graph["maps"] = node(
            "SubjectDiffusionAttentionMaps",
            attention=["record", 1],
            image=["decode", 0],
            tokens="average",
            threshold=0.5,
            opacity=0.7,
        )
        return graph

    def with_encoded_subjects(self) -> Graph:
        """Also saves the encoded subjects, for `from_file`."""
        graph = self.two(("encode", {"subjects": ["embeds", 0]}))
        graph["embeds"] = node(
            "SubjectDiffusionEncodeSubjects",
            subjects=["layout", 0],
            clip_vision=["loader", 3],
            adapter=["loader", 4],
        )
        graph["save_embeds"] = node(
            "SubjectDiffusionSaveSubjects",
            subjects=["embeds", 0],
            filename_prefix="subject_diffusion_embeds/help",
        )
        return graph

    def from_file(self) -> Graph:
        graph = self.two(("encode", {"subjects": ["load_embeds", 0]}))
        graph["load_embeds"] = node(
            "SubjectDiffusionLoadSubjects", file_name="help_00001_.safetensors"
        )
        return graph

    def self_subject_attention(self, **inputs: Any) -> Graph:
        graph = self.golden("self_subject_attention")
        _find(graph, "SubjectDiffusionSelfSubjectAttention")["inputs"] |= inputs
        return graph

    def dreamtuner_guidance(self, reference_guidance_scale: float) -> Graph:
        """The graph for Stable Diffusion 1.5, on the small model and at its size."""
        graph = self.golden("dreamtuner_sd15")
        loader = _find(graph, "CheckpointLoaderSimple")
        loader |= node("SubjectDiffusionTinyLoader")
        guider = _find(graph, "SubjectDiffusionDreamTunerGuider")
        guider["inputs"]["reference_guidance_scale"] = reference_guidance_scale
        _find(graph, "EmptyLatentImage")["inputs"] |= {"width": 128, "height": 128}
        return graph

    def changed(self, name: str, node_name: str, **inputs: Any) -> Graph:
        """An example workflow with other inputs of one of the pack's nodes."""
        graph = self.golden(name)
        _find(graph, f"SubjectDiffusion{node_name}")["inputs"] |= inputs
        return graph

    def golden(self, name: str) -> Graph:
        """An example workflow; its pictures are found in the input folder by their own names."""
        path = self._root / "tests" / "golden" / f"{name}.json"
        graph: Graph = copy.deepcopy(json.loads(path.read_text(encoding="utf-8")))
        return graph


def _find(graph: Graph, class_type: str) -> dict[str, Any]:
    (found,) = (one for one in graph.values() if one["class_type"] == class_type)
    return found


def _job(prompt: str, *subjects: SubjectSpec) -> Job:
    settings = GenerationSettings()
    return Job(
        prompt=prompt, subjects=subjects, seed=SEED, out=Path("unused.png"), settings=settings
    )


class HelpPictures:
    """Writes web/docs/images/<node id>.jpg, and the English locale file."""

    def __init__(self, *, root: Path, python: Path, progress: Progress) -> None:
        self._root = root
        self._python = python
        self._progress = progress

    def make(self, server: ComfyServer, only: Sequence[str] = ()) -> list[Path]:
        """The files written; `only` names the pictures to make, none means all."""
        with ComfyClient(LOOPBACK, server.port, server.is_running) as client:
            texts = write_english(client.node_infos(), self._root)
            self._progress.say(str(texts))
            self._progress.say(f"{len(write_chinese_pages(self._root))} help pages in Chinese")
            missing = len(write_templates(self._root))
            self._progress.say(f"{missing} sentences without their Chinese in locales/zh/main.json")
            for picture in (self._root / "assets").rglob("*.png"):
                (server.base / "input" / picture.name).write_bytes(picture.read_bytes())
            pictures = HelpGraphs(client.upload_image, self._root).pictures()
            wanted = {name: pictures[name] for name in only or pictures if name != SCREENSHOT}
            made = [self._make(client, name, panels) for name, panels in wanted.items()]
        if not only or SCREENSHOT in only:
            made += self._screenshot(server)
        return made

    def _screenshot(self, server: ComfyServer) -> list[Path]:
        """Segment's nodes need weights that are not here: they are shown, not run."""
        browser = find_browser()
        if browser is None:
            self._progress.say(f"{SCREENSHOT}: there is no Chromium; its picture stays as it is.")
            return []
        settings = server.base / "user" / "default" / "comfy.settings.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps(NO_TOUR), encoding="utf-8")
        path = self._root / "web" / "docs" / "images" / f"{SCREENSHOT}.jpg"
        script = Path(__file__).with_name("help_screenshot.py")
        self._call(script, server.url, str(browser), str(path))
        return [path]

    def _make(self, client: ComfyClient, name: str, panels: Sequence[Panel]) -> Path:
        path = self._root / "web" / "docs" / "images" / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="subject-diffusion-help-") as temporary:
            spec = [
                {
                    "caption": panel.caption,
                    "files": self._run(client, panel.graph, Path(temporary) / str(number)),
                }
                for number, panel in enumerate(panels)
            ]
            self._draw(spec, path)
        self._progress.say(f"{path} ({path.stat().st_size / 1000:.0f} kB)")
        return path

    def _run(self, client: ComfyClient, graph: Graph, folder: Path) -> list[str]:
        folder.mkdir()
        files = []
        for number, image in enumerate(client.run(graph)):
            if image.type == "output" and image.filename.endswith(".png"):
                files.append(folder / f"{number}.png")
                files[-1].write_bytes(client.fetch_image(image))
        return [str(file) for file in files]

    def _draw(self, spec: list[dict[str, Any]], path: Path) -> None:
        """Have `help_picture.py` draw it with a Python that has Pillow."""
        self._call(Path(__file__).with_name("help_picture.py"), str(path), json.dumps(spec))

    def _call(self, script: Path, *arguments: str) -> None:
        command = [str(self._python), str(script), *arguments]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            raise DevError(f"{script.name} failed:\n{last_lines(done.stderr, 5)}")
