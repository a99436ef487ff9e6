import pytest
import torch

from subject_diffusion_core.errors import ShapeError
from subject_diffusion_core.pictures import pad_to_white_square, prepare_reference


def red_subject(rows: slice, columns: slice) -> tuple[torch.Tensor, torch.Tensor]:
    """A red rectangle on a green picture of 12 x 20 pixels."""
    picture = torch.zeros(12, 20, 3)
    picture[..., 1] = 1
    picture[rows, columns] = torch.tensor([1.0, 0, 0])
    mask = torch.zeros(12, 20)
    mask[rows, columns] = 1
    return picture, mask


def test_square_subject_fills_the_picture():
    reference = prepare_reference(*red_subject(slice(2, 10), slice(5, 13)), 16)
    assert reference.shape == (3, 16, 16)
    red = torch.tensor([1.0, 0, 0])[:, None, None].expand(3, 16, 16)
    assert torch.allclose(reference, red, atol=1e-4)


def test_tall_subject_is_centred_on_white():
    reference = prepare_reference(*red_subject(slice(2, 10), slice(6, 10)), 8)
    assert torch.allclose(reference[:, :, [0, 1, 6, 7]], torch.ones(3, 8, 4), atol=1e-4)
    assert torch.allclose(reference[0, :, 2:6], torch.ones(8, 4), atol=1e-4)
    assert torch.allclose(reference[1:, :, 2:6], torch.zeros(2, 8, 4), atol=1e-4)


def test_background_inside_the_crop_becomes_white():
    picture, mask = red_subject(slice(2, 10), slice(6, 14))
    mask[2:6, 6:10] = 0
    reference = prepare_reference(picture, mask, 8)
    assert torch.allclose(reference[:, :4, :4], torch.ones(3, 4, 4), atol=1e-4)


def test_soft_edge_blends_with_white():
    picture, mask = red_subject(slice(0, 4), slice(0, 4))
    reference = prepare_reference(picture, mask * 0.5, 4)
    assert torch.allclose(reference[1], torch.full((4, 4), 0.5), atol=1e-4)


def test_result_stays_in_range():
    picture, mask = torch.rand(40, 30, 3).round(), (torch.rand(40, 30) > 0.5).float()
    reference = prepare_reference(picture, mask, 64)
    assert reference.min() >= 0 and reference.max() <= 1


def test_shrinking_is_antialiased():
    stripes = torch.zeros(64, 64, 3)
    stripes[:, ::4] = 1
    reference = prepare_reference(stripes, torch.ones(64, 64), 8)
    assert (reference - 0.25).abs().max() < 0.1


def test_mirrored_picture_gives_the_mirrored_reference():
    picture, mask = torch.rand(21, 16, 3), torch.zeros(21, 16)
    mask[3:17, 2:12] = 1
    reference = prepare_reference(picture, mask, 8)
    mirrored = prepare_reference(picture.flip(1), mask.flip(1), 8)
    assert torch.allclose(mirrored, reference.flip(-1), atol=1e-5)


def test_padding_is_centred():
    padded = pad_to_white_square(torch.zeros(3, 2, 4))
    assert padded[:, 0].eq(1).all() and padded[:, 3].eq(1).all() and not padded[:, 1:3].any()


def test_empty_mask():
    with pytest.raises(ValueError, match=r"mask: expected a subject .* got at most 0\. Paint"):
        prepare_reference(torch.zeros(4, 4, 3), torch.zeros(4, 4), 8)


def test_mask_of_another_picture():
    with pytest.raises(ShapeError, match=r"mask: expected shape \(4, 5\) .* got \(5, 4\)"):
        prepare_reference(torch.zeros(4, 5, 3), torch.ones(5, 4), 8)


def test_picture_with_alpha():
    with pytest.raises(ShapeError, match=r"picture: expected shape \(H, W, 3\), got \(4, 5, 4\)"):
        prepare_reference(torch.zeros(4, 5, 4), torch.ones(4, 5), 8)
