"""What the command line and job files may say, and the one sentence each mistake gets."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from devtools.commands import read_job_file
from devtools.console import DevError
from devtools.jobs import (
    GenerationSettings,
    job_from_line,
    jobs_of_command,
    out_file,
    parse_box,
    parse_size,
    parse_subject,
)
from devtools.workflows import generation_graph

MakePng = Callable[..., Path]
BOX = "0,0.25,0.5,1"


def test_a_subject_with_everything(make_png: MakePng) -> None:
    image, mask = make_png("a, b.png"), make_png("mask.png")
    text = f"image={image}, label=teddy bear,box={BOX},mask={mask},strength=0.5"
    subject = parse_subject(text)
    assert (subject.image, subject.mask, subject.label) == (image, mask, "teddy bear")
    assert (subject.box_xyxy, subject.strength) == ((0.0, 0.25, 0.5, 1.0), 0.5)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "expected image, label and box, got no image and no label and no box"),
        ("cat.png", "expected it to begin with image="),
        ("image={image},label=cat", "got no box"),
        ("image={image},label=cat,box=0,0,1", "box: expected four numbers x1,y1,x2,y2"),
        ("image={image},label=cat,box=0,0,1,wide", "box: expected four numbers x1,y1,x2,y2"),
        ("image={image},label=cat,box=0,0,nan,1", "box: expected four numbers x1,y1,x2,y2"),
        ("image={image},label=cat,box=0.5,0,0.2,1", "box: expected 0 <= x1 < x2 <= 1"),
        ("image={image},label=cat,box=0,0,1,1.2", "got 0,0,1,1.2"),
        ("image={image},label=cat,box=0.3,0.3,0.3,0.9", "box: expected 0 <= x1 < x2 <= 1"),
        ("image={image},label= ,box=0,0,1,1", "label: expected a noun"),
        ("image={image},label=cat,label=dog,box=0,0,1,1", "expected each name once, got label"),
        (
            "image=absent.png,label=cat,box=0,0,1,1",
            "image: expected a picture file, got absent.png",
        ),
        ("image={image},label=cat,box=0,0,1,1,mask=absent.png", "mask: expected a picture file"),
        ("image={image},label=cat,box=0,0,1,1,strength=much", "strength: expected a number"),
        ("image={image},label=cat,box=0,0,1,1,strength=-1", "strength: expected a number from 0"),
        (
            "image={image},label=cat,box=0,0,1,1,strength=3",
            "strength: expected a number from 0 to 2",
        ),
        ("image={image},label=cat,box=0,0,1,1,strength=nan", "strength: expected a number from 0"),
        ("image={image},box=0,0,1,1,label=" + "x" * 10**6, "expected at most 1000 characters"),
        ("label=cat,box=0,0,1,1,image=" + "x" * 10**6, "image: expected a picture file, got xxx"),
        ("image={image},label=cat,box=" + "x" * 10**6, "box: expected four numbers x1,y1,x2,y2"),
    ],
)
def test_a_bad_subject_is_one_sentence(make_png: MakePng, text: str, sentence: str) -> None:
    with pytest.raises(DevError) as error:
        parse_subject(text.replace("{image}", str(make_png())))
    message = str(error.value)
    assert message.startswith("--subject: ")
    assert sentence in message
    assert "\n" not in message
    assert len(message) < 800


def test_sizes_and_boxes() -> None:
    assert parse_size("520x776") == (520, 776)
    assert parse_box([0, 0.5, 1, 1]) == (0.0, 0.5, 1.0, 1.0)
    for text in ("128", "128x", "ax2", "-8x8"):
        with pytest.raises(DevError, match="--size: expected WIDTHxHEIGHT"):
            parse_size(text)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"steps": 0}, "steps: expected 1 or more, got 0"),
        ({"width": 130}, "size: expected multiples of 8 from 64 up, got 130x128"),
        ({"height": 8}, "size: expected multiples of 8 from 64 up, got 128x8"),
        (
            {"adapter": "absent.safetensors"},
            "adapter: expected a .safetensors file or the word none",
        ),
    ],
)
def test_bad_settings(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(DevError, match=sentence):
        GenerationSettings(**values)  # type: ignore[arg-type]


def test_count_makes_consecutive_seeds(make_png: MakePng, tmp_path: Path) -> None:
    jobs = jobs_of_command(
        prompt="a cat",
        subjects=[f"image={make_png()},label=cat,box={BOX}"],
        seed=7,
        count=3,
        out=tmp_path,
        settings=GenerationSettings(),
    )
    assert [job.seed for job in jobs] == [7, 8, 9]
    assert [job.out.name for job in jobs] == ["seed7.png", "seed8.png", "seed9.png"]


def test_subjects_are_needed_unless_the_base_model_is_alone(tmp_path: Path) -> None:
    with pytest.raises(DevError, match="subject: expected at least one, got none"):
        job_from_line('{"prompt": "a cat"}', 1, tmp_path, GenerationSettings())
    alone = GenerationSettings(adapter="none")
    assert job_from_line('{"prompt": "a cat"}', 1, tmp_path, alone).subjects == ()


def test_a_line_of_a_job_file(make_png: MakePng, tmp_path: Path) -> None:
    image = str(make_png())
    subject = {"image": image, "label": "cat", "box": [0, 0, 0.5, 1], "strength": 0.5}
    line = {"prompt": "a cat", "subjects": [subject], "seed": 5, "steps": 3, "out": "one/a.png"}
    job = job_from_line(json.dumps(line), 1, tmp_path, GenerationSettings(steps=9, width=64))
    assert (job.seed, job.settings.steps, job.settings.width) == (5, 3, 64)
    assert job.out == tmp_path / "one" / "a.png"
    assert job.subjects[0].strength == 0.5


def test_out_is_a_file_or_a_folder(tmp_path: Path) -> None:
    assert out_file(tmp_path, None, "1.png") == tmp_path / "1.png"
    assert out_file(tmp_path, "x.PNG", "1.png") == tmp_path / "x.PNG"
    assert out_file(tmp_path, "x", "1.png") == tmp_path / "x" / "1.png"


def test_bad_lines_leave_the_good_ones(make_png: MakePng, tmp_path: Path) -> None:
    good = json.dumps(
        {
            "prompt": "a cat",
            "subjects": [{"image": str(make_png()), "label": "cat", "box": [0, 0, 1, 1]}],
        }
    )
    bad = [
        "{",
        "[]",
        '{"promt": "a"}',
        '{"prompt": "a", "seed": 1.5}',
        '{"prompt":"a","subjects":3}',
    ]
    file = tmp_path / "jobs.jsonl"
    file.write_text("\n".join([bad[0], good, "", *bad[1:]]), encoding="utf-8")
    jobs, failed = read_job_file(file, tmp_path, GenerationSettings())
    assert len(jobs) == 1
    assert [failure.name for failure in failed] == [
        f"line {number} of jobs.jsonl" for number in (1, 4, 5, 6, 7)
    ]
    assert "expected one JSON object in a line" in failed[0].reason
    assert "expected a JSON object" in failed[1].reason
    assert "got promt" in failed[2].reason
    assert "seed: expected a whole number, got 1.5" in failed[3].reason
    assert "subjects: expected a list, got 3" in failed[4].reason


def test_a_job_names_its_sampler(tmp_path: Path) -> None:
    settings = GenerationSettings(adapter="none")
    plain = job_from_line('{"prompt": "a dog"}', 1, tmp_path, settings)
    assert (plain.settings.sampler, plain.settings.scheduler) == ("dpmpp_2m", "normal")
    line = '{"prompt": "a dog", "sampler": "ddim", "scheduler": "sgm_uniform"}'
    graph = generation_graph(job_from_line(line, 1, tmp_path, settings), lambda path: path.name)
    assert graph["sampler"]["inputs"]["sampler_name"] == "ddim"
    assert graph["sigmas"]["inputs"]["scheduler"] == "sgm_uniform"
    with pytest.raises(DevError, match="sampler: expected one of ComfyUI's names, got 3"):
        job_from_line('{"prompt": "a dog", "sampler": 3}', 1, tmp_path, settings)


def test_a_job_names_its_method_and_guidance(tmp_path: Path) -> None:
    line = {"prompt": "a forest", "method": "base", "text_guidance": 3, "image_guidance": 2.5}
    job = job_from_line(json.dumps(line), 1, tmp_path, GenerationSettings())
    assert job.settings.is_base_only
    assert (job.settings.text_guidance_scale, job.settings.image_guidance_scale) == (3.0, 2.5)
    for name, value in (("method", "other"), ("text_guidance", "much"), ("image_guidance", True)):
        with pytest.raises(DevError, match=f"{name}: expected"):
            job_from_line(json.dumps({**line, name: value}), 1, tmp_path, GenerationSettings())


def test_methods_that_the_pack_brings_no_file_for_need_one(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "a forest", "subjects": [], "method": "ms_diffusion"})
    for adapter in (None, "none"):
        settings = GenerationSettings(adapter=adapter)
        with pytest.raises(DevError, match="method: expected --adapter FILE with ms_diffusion"):
            job_from_line(line, 1, tmp_path, settings)
    file = tmp_path / "head.safetensors"
    file.touch()
    subject = {"image": str(file), "label": "owl", "box": [0, 0, 1, 1]}
    line = json.dumps({"prompt": "an owl", "subjects": [subject], "method": "ms_diffusion"})
    job = job_from_line(line, 1, tmp_path, GenerationSettings(adapter=str(file)))
    assert job.settings.adapter == str(file)
