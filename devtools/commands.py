"""The command line of `dev.py`."""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from .browser import find_or_install_browser
from .checks import Checks
from .console import DevError, Progress
from .demo import demo_jobs, pick_two, read_subjects, run_demo
from .environment import TEST_EXTRAS, Environment, RequirementGroup, read_extras
from .examples import ExamplePictures
from .generation import FailedJob, Generator
from .generation_options import add_generate_parser, settings_of
from .help_pictures import HelpPictures
from .host import Host, find_or_fetch, require_python
from .host_tests import parse_run
from .host_tests import run_all as run_in_hosts
from .jobs import GenerationSettings, Job, fresh_seed, job_from_line, jobs_of_command
from .server import ComfyServer, prepare_base, put_sample_pictures, temporary_base
from .tuning_options import add_tune_parser

ROOT = Path(__file__).resolve().parent.parent
WORK = ROOT / ".dev"
CONSTRAINTS = ROOT / "constraints.txt"
SUBJECTS = ROOT / "assets" / "subjects"
KEPT_LOGS, INTERRUPTED = 10, 130


class Workshop:
    """What the commands share: the work folder, the environment and the host in it."""

    def __init__(self, progress: Progress) -> None:
        require_python()
        self.progress = progress
        self.environment = Environment(WORK / "venv", WORK / "logs", progress)

    @property
    def python(self) -> Path:
        return self.environment.python

    def set_up(self, *, for_tests: bool = False) -> Host:
        """Environment, ComfyUI and requirements; what is there already is left alone."""
        self.environment.create()
        host = find_or_fetch(WORK, self.environment, self.progress)
        self.environment.install(host.requirements(CONSTRAINTS))
        if for_tests:
            pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
            extras = tuple(read_extras(pyproject, TEST_EXTRAS))
            group = RequirementGroup(name="test", requirements=extras, constraints=CONSTRAINTS)
            self.environment.install(group)
        return host

    @contextlib.contextmanager
    def server(self) -> Iterator[ComfyServer]:
        """A server in a folder that is gone afterwards."""
        host = self.set_up()
        with temporary_base(WORK / "runs", ROOT) as base, self.server_in(base, host) as server:
            yield server

    def server_in(self, base: Path, host: Host, port: int | None = None) -> ComfyServer:
        return ComfyServer(
            host=host,
            python=self.python,
            base=base,
            log=self._new_log(),
            progress=self.progress,
            port=port,
        )

    def _new_log(self) -> Path:
        logs = sorted((WORK / "logs").glob("server-*.log"))
        for old in logs[: max(0, len(logs) - KEPT_LOGS + 1)]:
            with contextlib.suppress(OSError):
                old.unlink()
        return WORK / "logs" / f"server-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"


def demo(options: argparse.Namespace, progress: Progress) -> int:
    """Two held-out subjects in one picture, from set-up to contact sheet."""
    seed = fresh_seed() if options.seed is None else options.seed
    out = Path(options.out) if options.out else WORK / "demo" / f"seed{seed}"
    pair = pick_two(read_subjects(SUBJECTS), seed)
    jobs = demo_jobs(pair, seed, out, options.count)
    progress.say(f"Subjects: {pair[0][0]} and {pair[1][0]}; seed {seed}")
    workshop = Workshop(progress)
    sheet = out.resolve() / "contact_sheet.png"
    with workshop.server() as server, Generator(server, progress) as generator:
        images = run_demo(generator, jobs, workshop.python, sheet)
    print("\nImages:", *images, "Contact sheet:", sheet, sep="\n  ", flush=True)
    return 0


def serve(options: argparse.Namespace, progress: Progress) -> int:
    """ComfyUI with the pack for the browser, until Ctrl-C; its folder is kept."""
    workshop = Workshop(progress)
    host = workshop.set_up()
    base = WORK / "serve"
    prepare_base(base, ROOT)
    put_sample_pictures(base, ROOT)
    with workshop.server_in(base, host, options.port) as server:
        progress.say(f"Open {server.url} in a browser; Ctrl-C ends it")
        try:
            while server.is_running():
                time.sleep(0.5)
        except KeyboardInterrupt:
            progress.say("Ending ComfyUI")
            return 0
        raise DevError(f"ComfyUI ended; its last lines:\n{server.log_tail()}")


def generate(options: argparse.Namespace, progress: Progress) -> int:
    """Images from the command line or from a file of jobs, all in one server."""
    settings = settings_of(options, progress)
    jobs, failed = read_jobs(options, settings)
    for failure in failed:
        progress.say(f"error: {failure.name}: {failure.reason}")
    if settings.is_base_only and any(job.subjects for job in jobs):
        progress.say("note: --adapter none is the base model alone: the subjects have no effect")
    if jobs:
        with Workshop(progress).server() as server, Generator(server, progress) as generator:
            failed += generator.generate_all(jobs)
    total = len(jobs) + sum(failure.name.startswith("line ") for failure in failed)
    if total > 1 or failed:
        print(f"\n{total - len(failed)} of {total} images made", flush=True)
    for failure in failed:
        print(f"  failed: {failure.name}: {failure.reason}", flush=True)
    return 1 if failed else 0


def examples(options: argparse.Namespace, progress: Progress) -> int:
    """The pictures of the example workflows, made anew."""
    workshop = Workshop(progress)
    with workshop.server() as server:
        pictures = ExamplePictures(root=ROOT, python=workshop.python, progress=progress)
        made = pictures.make_all(server, options.names)
    print(f"\n{len(made)} pictures made", flush=True)
    return 0


def docs(options: argparse.Namespace, progress: Progress) -> int:
    """The pictures of the help pages and the texts of the nodes, made anew."""
    workshop = Workshop(progress)
    with workshop.server() as server:
        pictures = HelpPictures(root=ROOT, python=workshop.python, progress=progress)
        made = pictures.make(server, options.only)
    print(f"\n{len(made)} pictures made", flush=True)
    return 0


def test(options: argparse.Namespace, progress: Progress) -> int:
    """Lint, types and all tests."""
    workshop = Workshop(progress)
    host = workshop.set_up(for_tests=True)
    browser = find_or_install_browser(progress)
    checks = Checks(
        root=ROOT, python=workshop.python, host=host, progress=progress, browser=browser
    )
    outcome = checks.run_all()
    print(outcome, flush=True)
    return 1 if outcome.failed else 0


def test_host(options: argparse.Namespace, progress: Progress) -> int:
    """The tests inside ComfyUI, on several of them."""
    python = Workshop(progress).python
    runs = [parse_run(text, python) for text in options.folders]
    outcome = run_in_hosts(runs, root=ROOT, progress=progress, only=options.only)
    return 1 if outcome.failed else 0


def read_jobs(
    options: argparse.Namespace, settings: GenerationSettings
) -> tuple[list[Job], list[FailedJob]]:
    """The jobs asked for, and those lines of a `--jobs` file that are none."""
    if options.jobs is None:
        if options.prompt is None or options.out is None:
            raise DevError(
                "generate: expected --prompt and --out (or --jobs FILE.jsonl), got neither or one."
            )
        jobs = jobs_of_command(
            prompt=options.prompt,
            subjects=options.subject,
            seed=options.seed,
            count=options.count,
            out=Path(options.out),
            settings=settings,
        )
        return jobs, []
    if options.prompt is not None or options.subject or options.seed is not None:
        raise DevError(
            "--jobs: expected it without --prompt, --subject and --seed, got both. "
            "Put them into the file's lines."
        )
    return read_job_file(Path(options.jobs), Path(options.out or "."), settings)


def read_job_file(
    file: Path, out_folder: Path, settings: GenerationSettings
) -> tuple[list[Job], list[FailedJob]]:
    """One job a line; a line that is none becomes a failure of its own and stops nothing."""
    if not file.is_file():
        raise DevError(
            f"--jobs: expected a file with a JSON object a line, got {file}, which does not exist."
        )
    jobs, failed = [], []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            jobs.append(job_from_line(line, number, out_folder, settings))
        except DevError as error:
            failed.append(FailedJob(f"line {number} of {file.name}", str(error)))
    return jobs, failed


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py", description="Try and check Subject-Diffusion; everything made goes to .dev/."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add_demo_parser(commands)
    add_generate_parser(commands, generate)
    add_tune_parser(commands, Workshop)
    serve_parser = commands.add_parser("serve", help="run ComfyUI with the pack, for the browser")
    serve_parser.add_argument("--port", type=int, help="default: a free one")
    serve_parser.set_defaults(run=serve)
    example_pictures = commands.add_parser(
        "examples", help="make the pictures of the example workflows anew"
    )
    example_pictures.add_argument("names", nargs="*", metavar="NAME", help="only these")
    example_pictures.set_defaults(run=examples)
    help_pages = commands.add_parser(
        "docs", help="make the pictures of the help pages and the texts of the nodes anew"
    )
    help_pages.add_argument("only", nargs="*", metavar="NODE_ID", help="only these pictures")
    help_pages.set_defaults(run=docs)
    commands.add_parser("test", help="lint, types and all tests").set_defaults(run=test)
    add_test_host_parser(commands)
    return parser


def add_test_host_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("test-host", help="the tests inside ComfyUI, on any ComfyUI")
    parser.add_argument(
        "folders",
        nargs="+",
        metavar="FOLDER[=PYTHON]",
        help="a folder with ComfyUI's main.py, and the Python for it (default: COMFYUI_PYTHON, or "
        "that of .dev); nothing is installed into it",
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="FILE", help="tests/host/test_...")
    parser.set_defaults(run=test_host)


def add_demo_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("demo", help="two subjects, each from one picture, in one image")
    parser.add_argument("--seed", type=int, help="default: a fresh one")
    parser.add_argument("--count", type=int, default=1, help="seeds to try (default 1)")
    parser.add_argument("--out", help="folder for the images (default: .dev/demo/seed<SEED>)")
    parser.set_defaults(run=demo)


def main(arguments: Sequence[str]) -> int:
    """Run one command; problems end in one sentence and exit status 1, never in a traceback."""
    options = build_parser().parse_args(arguments)
    progress = Progress()
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), _interrupt)
    try:
        return int(options.run(options, progress))
    except DevError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr, flush=True)
        return INTERRUPTED


def _interrupt(*_: object) -> None:
    """End as with Ctrl-C: servers and temporary folders are cleared away."""
    raise KeyboardInterrupt
