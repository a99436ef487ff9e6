import pytest
import torch

from subject_diffusion_core.guidance import classifier_free_guidance, three_branch_guidance


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_equal_to_the_sum_of_steps_bit_for_bit(dtype):
    text, image, uncond = (prediction.to(dtype) for prediction in predictions())
    wanted = uncond + 1.5 * (image - uncond) + 3.0 * (text - image)
    assert torch.equal(three_branch_guidance(text, image, uncond, 3.0, 1.5), wanted)


def test_plain_guidance_by_hand():
    assert classifier_free_guidance(torch.tensor(2.0), torch.tensor(1.0), 1.5) == 1 + 1.5 * (2 - 1)


def test_the_host_may_compute_the_image_step_itself():
    text, image, uncond = predictions()
    seen = []

    def image_guidance(pred_image, pred_uncond, scale):
        seen.append((pred_image, pred_uncond, scale))
        return 2 * pred_image

    guided = three_branch_guidance(text, image, uncond, 3.0, 1.5, image_guidance=image_guidance)
    assert torch.equal(guided, 2 * image + 3.0 * (text - image))
    ((first, second, scale),) = seen
    assert first is image and second is uncond and scale == 1.5
