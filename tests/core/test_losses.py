import pytest
import torch
import torch.nn.functional as F

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.losses import cross_attention_map_loss, latent_size


def two_pixel_case():
    """One head, one subject, two pixels, the subject on the left."""
    probs = torch.tensor([[[[0.7], [0.2]]]])
    return [probs], torch.tensor([[[[1.0, 0.0]]]]), torch.tensor([[True]])


def random_case(dtype=torch.float32):
    torch.manual_seed(0)
    probs = [torch.rand(2, 3, 16, 2, dtype=dtype), torch.rand(2, 3, 4, 2, dtype=dtype)]
    segmaps = (torch.rand(2, 2, 8, 8, dtype=dtype) > 0.5).to(dtype)
    return probs, segmaps, torch.tensor([[True, True], [True, False]])


def test_l1_by_hand():
    assert cross_attention_map_loss(*two_pixel_case(), kind="l1").item() == pytest.approx(0.25)


def test_balanced_by_hand():
    loss = cross_attention_map_loss(*two_pixel_case(), kind="balanced_l1")
    assert loss.item() == pytest.approx(0.2 - 0.7)


def test_layers_are_summed_in_l1_and_averaged_in_balanced():
    probs, segmaps, valid = two_pixel_case()
    for kind, factor in (("l1", 3), ("balanced_l1", 1)):
        once = cross_attention_map_loss(probs, segmaps, valid, kind)
        thrice = cross_attention_map_loss(probs * 3, segmaps, valid, kind)
        assert thrice.item() == pytest.approx(factor * once.item())


def test_balanced_normalises_by_region_size():
    probs = [torch.tensor([[[[0.8], [0.1], [0.2], [0.3]]]])]
    loss = cross_attention_map_loss(
        probs, torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.tensor([[True]])
    )
    assert loss.item() == pytest.approx(0.2 - 0.8)


def picture_loss(layer, segmaps, valid):
    """One picture's balanced loss as the reference computes it, (H, Q, N), (N, H_i, W_i), (N,)."""
    num_heads, num_positions, _ = layer.shape
    side = int(num_positions**0.5)
    resized = F.interpolate(segmaps[None], (side, side), mode="bilinear", antialias=True)[0]
    losses = []
    for head in range(num_heads):
        for slot in valid.nonzero()[:, 0].tolist():
            probs, region = layer[head, :, slot], resized[slot].flatten()
            on_subject = (probs * region).sum() / region.sum()
            losses.append((probs * (1 - region)).sum() / (1 - region).sum() - on_subject)
    return torch.stack(losses).mean() if losses else torch.zeros(())


@pytest.mark.parametrize("valid", [[[1, 1], [1, 0]], [[1, 1], [0, 0]]])
def test_balanced_is_the_references(valid):
    """The mean over a picture's subjects, then over all pictures, those without one included."""
    probs, segmaps, _ = random_case()
    valid = torch.tensor(valid).bool()
    pictures = [
        torch.stack([picture_loss(layer[b], segmaps[b], valid[b]) for layer in probs]).mean()
        for b in range(2)
    ]
    loss = cross_attention_map_loss(probs, segmaps, valid, "balanced_l1")
    assert loss.item() == pytest.approx(torch.stack(pictures).mean().item(), rel=1e-4)


def test_segmentation_is_averaged_over_the_layers_cells():
    probs = [torch.zeros(1, 1, 1, 1)]
    segmaps = torch.tensor([[[[1.0, 1.0], [1.0, 0.0]]]])
    loss = cross_attention_map_loss(probs, segmaps, torch.tensor([[True]]), kind="l1")
    assert loss.item() == pytest.approx(0.75)


@pytest.mark.parametrize("kind", ["l1", "balanced_l1"])
def test_empty_slots_may_hold_nan(kind):
    probs, segmaps, valid = random_case()
    expected = cross_attention_map_loss(probs, segmaps, valid, kind)
    for layer in probs:
        layer[1, ..., 1] = float("nan")
    assert torch.equal(cross_attention_map_loss(probs, segmaps, valid, kind), expected)


@pytest.mark.parametrize("kind", ["l1", "balanced_l1"])
def test_no_subjects_is_zero_with_a_gradient(kind):
    probs, segmaps, valid = random_case()
    probs[0].requires_grad_()
    loss = cross_attention_map_loss(probs, segmaps, torch.zeros_like(valid), kind)
    loss.backward()
    assert loss == 0 and not probs[0].grad.any()


@pytest.mark.parametrize("kind", ["l1", "balanced_l1"])
def test_slot_order_and_flip_do_not_matter(kind):
    probs, segmaps, valid = random_case()
    loss = cross_attention_map_loss(probs, segmaps, valid, kind)
    swapped = [layer.flip(-1) for layer in probs]
    assert torch.allclose(
        cross_attention_map_loss(swapped, segmaps.flip(1), valid.flip(1), kind), loss
    )
    mirrored = [
        layer.unflatten(2, (int(layer.shape[2] ** 0.5), -1)).flip(3).flatten(2, 3)
        for layer in probs
    ]
    assert torch.allclose(
        cross_attention_map_loss(mirrored, segmaps.flip(-1), valid, kind), loss, atol=1e-6
    )


@pytest.mark.parametrize("kind", ["l1", "balanced_l1"])
def test_gradient(kind):
    probs, segmaps, valid = random_case(torch.float64)
    inputs = [layer.requires_grad_() for layer in probs]
    assert torch.autograd.gradcheck(
        lambda *layers: cross_attention_map_loss(layers, segmaps, valid, kind), inputs
    )


def test_balanced_loss_pulls_attention_onto_the_subject():
    probs, segmaps, valid = two_pixel_case()
    probs[0].requires_grad_()
    cross_attention_map_loss(probs, segmaps, valid).backward()
    on_subject, on_background = probs[0].grad.flatten().tolist()
    assert on_subject < 0 < on_background


def test_latents_that_are_not_square():
    assert latent_size(6 * 10, 48, 80) == (6, 10)


def test_impossible_aspect_ratio():
    with pytest.raises(
        ShapeError, match=r"expected a number of positions that fits 64x64 .* got 15"
    ):
        latent_size(15, 64, 64)


def test_unknown_kind():
    with pytest.raises(ValueError, match="kind: expected one of balanced_l1, l1, got 'l2'"):
        cross_attention_map_loss(*two_pixel_case(), kind="l2")


def test_no_layers():
    _, segmaps, valid = two_pixel_case()
    with pytest.raises(ValueError, match="probs: expected one tensor per layer, got none"):
        cross_attention_map_loss([], segmaps, valid)


def test_wrong_number_of_columns():
    probs, segmaps, valid = two_pixel_case()
    with pytest.raises(ShapeError, match=r"probs\[0\]: expected shape \(1, heads, Q, 1\)"):
        cross_attention_map_loss([probs[0].repeat(1, 1, 1, 2)], segmaps, valid)
