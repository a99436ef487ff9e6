"""Subjects in conditionings that ComfyUI's own nodes combine, cut, mask, lengthen and weigh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
import pytest
import torch
from host_models import (
    Base,
    Host,
    cfg_guider,
    denoise_once,
    random_context,
    random_noise,
    relative_error,
    sample,
)
from safetensors.torch import save_file

POSITIONS = {"patch_positions": True, "query_positions": True, "token_positions": True}
LONG = ", ".join(f"a {word} tree" for word in ("green", "tall", "old", "dark", "wet") * 6)


class Setup:
    """A tiny base with an adapter: two subjects for UNet calls, one for Encode."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.base: Base = host.make_base()
        self.loaded = host.make_adapter(self.base, folder, **POSITIONS)
        self.model, self.clip = host.apply_node.apply_adapter(
            self.base.model, self.base.clip, self.loaded
        )
        self.vision = host.tiny_clip_vision.TinyClipVision(host.tiny)
        self.noise = random_noise(self.base)

    def entry(self, seed: int) -> Any:
        """A CONDITIONING with subjects and a text of its own."""
        branch = self.host.branch(self.loaded, 2, seed)
        return self.host.conditioning(random_context(self.base, seed), branch)

    def predict(self, conditioning: Any) -> torch.Tensor:
        return denoise_once(cfg_guider(self.model, conditioning, conditioning), self.noise, 500)

    def encode(self, prompt: str) -> tuple[Any, Any, Any]:
        """Encode with a dog in a box."""
        picture = torch.rand(1, 40, 40, 3, generator=torch.Generator().manual_seed(5))
        node = self.host.subject_node.SubjectDiffusionSubject
        (subjects,) = node.execute(picture, "dog", "0.1,0.1,0.5,0.9", 1.0).args
        return self.host.encode_node.SubjectDiffusionEncode.execute(
            self.clip, self.vision, self.loaded, subjects, prompt, ""
        ).args

    def tokens(self, prompt: str) -> list[list[Any]]:
        """Chunks of (token, weight) with a placeholder of zeros for a dog."""
        template = self.host.core("prompts").build_prompt(prompt, ["dog"], "sks")
        embeds = [torch.zeros(48)]
        made = self.host.subject_tokens(self.clip, template, embeds, 48136)
        (chunks,) = made.tokens.values()
        return chunks

    def stock(self, prompt: str) -> torch.Tensor:
        return self.host.encode_text(self.base.clip, prompt)[0][0]


@pytest.fixture(scope="module")
def setup(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Setup:
    with torch.inference_mode():
        return Setup(host, tmp_path_factory.mktemp("conditionings"))


def combine(nodes: Any, first: Any, second: Any) -> Any:
    return nodes.ConditioningCombine().combine(first, second)[0]


def test_combine_is_the_mean(setup: Setup, comfy_nodes: Any) -> None:
    """Different subjects in both entries; ComfyUI averages the two predictions."""
    first, second = setup.entry(0), setup.entry(1)
    got = setup.predict(combine(comfy_nodes, first, second))
    wanted = (setup.predict(first) + setup.predict(second)) / 2
    assert relative_error(got, wanted) < 1e-5
    assert relative_error(got, setup.predict(first)) > 1e-2


def test_combine_with_a_plain_text(setup: Setup, comfy_nodes: Any) -> None:
    """An entry of CLIP Text Encode takes part without subjects."""
    plain = setup.host.conditioning(random_context(setup.base, 1), None)
    empty = setup.host.conditioning(
        random_context(setup.base, 1), setup.host.branch(setup.loaded, 0)
    )
    got, wanted = (
        setup.predict(combine(comfy_nodes, setup.entry(0), other)) for other in (plain, empty)
    )
    assert torch.equal(got, wanted)


@pytest.mark.parametrize("is_percentage", [False, True])
def test_each_area_has_its_own_subjects(
    setup: Setup, comfy_nodes: Any, is_percentage: bool
) -> None:
    """Two halves: each is what its own entry alone predicts there."""
    halves = []
    for seed, left in ((0, 0), (1, 64)):
        if is_percentage:
            node, place = comfy_nodes.ConditioningSetAreaPercentage(), (0.5, 1.0, left / 128, 0.0)
        else:
            node, place = comfy_nodes.ConditioningSetArea(), (64, 128, left, 0)
        halves += [node.append(setup.entry(seed), *place, 1.0)[0]]
    got = setup.predict(combine(comfy_nodes, *halves))
    wanted = torch.cat(
        (setup.predict(halves[0])[..., :8], setup.predict(halves[1])[..., 8:]), dim=-1
    )
    assert relative_error(got, wanted) < 1e-5
    assert relative_error(got[..., :8], setup.predict(setup.entry(0))[..., :8]) > 1e-2


def test_a_mask_weighs_whole_pictures(setup: Setup, comfy_nodes: Any) -> None:
    """Without "mask bounds" the boxes stay those of the whole picture."""
    mask = torch.zeros(1, 128, 128)
    mask[..., :64] = 1
    set_mask = comfy_nodes.ConditioningSetMask().append
    masked = [
        set_mask(setup.entry(seed), half, "default", 1.0)[0]
        for seed, half in ((0, mask), (1, 1 - mask))
    ]
    got = setup.predict(combine(comfy_nodes, *masked))
    whole = [setup.predict(setup.entry(seed)) for seed in (0, 1)]
    wanted = torch.cat((whole[0][..., :8], whole[1][..., 8:]), dim=-1)
    assert relative_error(got, wanted) < 1e-5


def test_mask_bounds_are_an_area(setup: Setup, comfy_nodes: Any) -> None:
    mask = torch.zeros(1, 128, 128)
    mask[:, 32:96, 16:96] = 1
    (masked,) = comfy_nodes.ConditioningSetMask().append(setup.entry(0), mask, "mask bounds", 1.0)
    (area,) = comfy_nodes.ConditioningSetArea().append(setup.entry(0), 80, 64, 16, 32, 1.0)
    inside = (..., slice(4, 12), slice(2, 12))
    assert relative_error(setup.predict(masked)[inside], setup.predict(area)[inside]) < 1e-5


def test_concat_keeps_the_subjects(setup: Setup, comfy_nodes: Any) -> None:
    more = setup.host.conditioning(random_context(setup.base, 9), None)
    (longer,) = comfy_nodes.ConditioningConcat().concat(setup.entry(0), more)
    assert longer[0][0].shape[1] == 154
    context = torch.cat((random_context(setup.base, 0), random_context(setup.base, 9)), dim=1)
    wanted = setup.host.conditioning(context, setup.host.branch(setup.loaded, 2, 0))
    assert torch.equal(setup.predict(longer), setup.predict(wanted))
    assert relative_error(setup.predict(longer), setup.predict(setup.entry(0))) > 1e-3


def test_textual_inversion(setup: Setup) -> None:
    """Its vectors stand in the prompt, the subject behind it; the stock text has it, too."""
    (folder, *_) = folder_paths.get_folder_paths("embeddings")
    Path(folder).mkdir(parents=True, exist_ok=True)
    vectors = torch.randn(2, 48, generator=torch.Generator().manual_seed(3))
    save_file({"emb_params": vectors}, Path(folder) / "tiny_style.safetensors")
    prompt = "a dog, embedding:tiny_style"
    (chunk,) = setup.tokens(prompt)
    tensors = [token for token, _ in chunk if isinstance(token, torch.Tensor)]
    assert torch.equal(torch.stack(tensors), torch.cat((vectors, torch.zeros(1, 48))))
    positive, _, _ = setup.encode(prompt)
    without, _, _ = setup.encode("a dog,")
    assert relative_error(positive[0][0], without[0][0]) > 1e-2
    assert torch.equal(positive[0][1]["cross_attn_controlnet"], setup.stock(prompt))


def test_weights_in_the_prompt(setup: Setup) -> None:
    """They hold for their words, not for the subject behind them."""
    (chunk,) = setup.tokens("a (brown:1.3) dog")
    weights = [weight for _, weight in chunk]
    assert weights.count(1.3) == 1 and set(weights) == {1.0, 1.3}
    assert weights.index(1.3) == 2  # start, a, brown
    (plain,) = setup.tokens("a brown dog")
    ids = [token for token, _ in chunk if not isinstance(token, torch.Tensor)]
    assert ids == [token for token, _ in plain if not isinstance(token, torch.Tensor)]
    weighted, _, _ = setup.encode("a (brown:1.3) dog")
    unweighted, _, _ = setup.encode("a brown dog")
    assert relative_error(weighted[0][0], unweighted[0][0]) > 1e-3
    assert torch.equal(weighted[0][1]["cross_attn_controlnet"], setup.stock("a (brown:1.3) dog"))


def test_long_prompts(setup: Setup) -> None:
    """Over 77 tokens: more chunks, the subject's words together in the last one, the last words
    of the prompt still matter, and both branches run together."""
    chunks = setup.tokens(f"a dog, {LONG}")
    assert [len(chunk) for chunk in chunks] == [77] * len(chunks) and len(chunks) == 2
    (suffix,) = setup.tokens("")
    words = suffix[1 : next(i for i, (t, _) in enumerate(suffix) if isinstance(t, torch.Tensor))]
    kinds = [isinstance(token, torch.Tensor) for token, _ in chunks[-1]]
    end = kinds.index(True)
    assert [token for token, _ in chunks[-1][end - len(words) : end]] == [t for t, _ in words]
    positive, _, negative = setup.encode(f"a dog, {LONG}")
    other, _, _ = setup.encode(f"a dog, {LONG[:-10]} red house")
    assert positive[0][0].shape[1] == 154
    assert negative[0][0].shape[1] == 77
    assert relative_error(other[0][0], positive[0][0]) > 1e-3
    both = sample(cfg_guider(setup.model, positive, negative, cfg=2.0), setup.noise, steps=2)
    assert bool(both.isfinite().all())
