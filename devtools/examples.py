"""Makes the pictures beside the example workflows: every golden graph, run in the real server; of
those that lack a user's files, what stands for them."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .api_client import ComfyClient, Graph, PromptError
from .console import DevError, Progress, last_lines
from .example_stand_ins import stand_in
from .server import LOOPBACK, ComfyServer, put_sample_pictures


class ExamplePictures:
    """Runs `tests/golden/<name>.json` and draws `example_workflows/<name>.jpg`."""

    def __init__(self, *, root: Path, python: Path, progress: Progress) -> None:
        self._root = root
        self._python = python
        self._progress = progress

    def make_all(self, server: ComfyServer, names: Sequence[str] = ()) -> list[Path]:
        """The pictures that were made, of these examples or of all; a graph that cannot run, and
        for which nothing stands, is only named."""
        known = {path.stem: path for path in (self._root / "tests" / "golden").glob("*.json")}
        if unknown := sorted(set(names) - set(known)):
            raise DevError(
                f"examples: expected names of {', '.join(sorted(known))}, got {unknown[0]}."
            )
        put_sample_pictures(server.base, self._root)
        made = []
        with ComfyClient(LOOPBACK, server.port, server.is_running) as client:
            for golden in (known[name] for name in sorted(names or known)):
                picture = self._root / "example_workflows" / f"{golden.stem}.jpg"
                graph = json.loads(golden.read_text(encoding="utf-8"))
                try:
                    self._make(client, graph, picture)
                except PromptError as error:
                    other = stand_in(graph)
                    if other is None:
                        self._progress.say(f"{golden.stem}: its picture stays as it is: {error}")
                        continue
                    self._make(client, other, picture)
                made.append(picture)
        return made

    def _make(self, client: ComfyClient, graph: Graph, picture: Path) -> None:
        images = [image for image in client.run(graph) if image.type == "output"]
        with tempfile.TemporaryDirectory(prefix="subject-diffusion-example-") as temporary:
            files = []
            for number, image in enumerate(images):
                files.append(Path(temporary) / f"{number}.png")
                files[-1].write_bytes(client.fetch_image(image))
            self._draw(files, picture)
        self._progress.say(f"{picture} ({len(images)} image{'s' * (len(images) != 1)})")

    def _draw(self, files: list[Path], picture: Path) -> None:
        """Have `example_picture.py` draw it with a Python that has Pillow."""
        script = Path(__file__).with_name("example_picture.py")
        command = [str(self._python), str(script), str(picture), *map(str, files)]
        drawn = subprocess.run(command, capture_output=True, text=True)
        if drawn.returncode != 0:
            raise DevError(f"{picture} could not be drawn:\n{last_lines(drawn.stderr, 5)}")
