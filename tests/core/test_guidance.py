import torch

from subject_diffusion_core.guidance import three_branch_guidance


def predictions() -> tuple[torch.Tensor, ...]:
    torch.manual_seed(0)
    return tuple(torch.randn(2, 4, 3, 3, dtype=torch.float64) for _ in range(3))


def test_values_by_hand():
    guided = three_branch_guidance(
        torch.tensor(4.0), torch.tensor(2.0), torch.tensor(1.0), 3.0, 1.5
    )
    assert guided == 1 + 1.5 * (2 - 1) + 3 * (4 - 2)


def test_scales_of_one_give_the_text_branch():
    text, image, uncond = predictions()
    assert torch.allclose(three_branch_guidance(text, image, uncond, 1.0, 1.0), text)


def test_scales_of_zero_give_the_unconditional_branch():
    text, image, uncond = predictions()
    assert torch.equal(three_branch_guidance(text, image, uncond, 0.0, 0.0), uncond)


def test_equal_scales_are_plain_guidance():
    text, image, uncond = predictions()
    plain = uncond + 2.5 * (text - uncond)
    assert torch.allclose(three_branch_guidance(text, image, uncond, 2.5, 2.5), plain)


def test_exact_on_noise_and_on_denoised():
    noise = predictions()
    latent, sigma = torch.randn(2, 4, 3, 3, dtype=torch.float64), 1.7
    guided_noise = three_branch_guidance(*noise, 3.0, 1.5)
    denoised = (latent - sigma * prediction for prediction in noise)
    guided_denoised = three_branch_guidance(*denoised, 3.0, 1.5)
    assert torch.allclose(latent - sigma * guided_noise, guided_denoised)
