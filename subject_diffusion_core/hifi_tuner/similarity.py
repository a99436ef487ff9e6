# Shapes: h, w size of a mask or picture, B samples, C channels, N starts of a search.
"""The similarity transform that puts a reference's subject where the picture's is: HiFi Tuner
eq. 8, 9 and algorithm 4."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from ..area_resize import area_resize
from ..errors import ShapeError, require_shape

Algorithm = Literal["moments", "paper"]
Padding = Literal["border", "zeros"]

SEARCH_SIZE = 96  # longest side of the masks that are searched on
BLURS = (0.08, 0.03, 0.0)  # of the longest side
STEPS_PER_BLUR = 40
PAPER_STEPS, PAPER_RATE, PAPER_POINTS = 300, 0.2, 1500


@dataclass(frozen=True, kw_only=True)
class Similarity:
    """x' = scale * R(angle) * (x + translation), about the picture's centre, y down.

    Attributes:
        angle: in radians, from x towards y: clockwise as one sees it.
        translation: x, y in pixels of a picture of size `size`.
        size: h, w of the masks that it was fitted on.
    """

    scale: float
    angle: float
    translation: tuple[float, float]
    size: tuple[int, int]

    def apply(self, image: torch.Tensor, padding: Padding = "border") -> torch.Tensor:
        """Move a picture (B, C, h, w), of the masks' size or of another with the same shape.

        Args:
            padding: what comes in from outside: the colour of the border, or 0.
        """
        require_shape("image", image, ("B", "C", "h", "w"), "Pass pictures")
        height, width = image.shape[-2:]
        if abs(height * self.size[1] - width * self.size[0]) > max(height, width):
            raise ShapeError(
                f"image: expected the shape of the masks, {self.size[1]}x{self.size[0]}, got "
                f"{width}x{height}. Resize it."
            )
        ratio = height / self.size[0]
        parameters = torch.tensor(
            [[math.log(self.scale), self.angle, *(ratio * part for part in self.translation)]]
        )
        return _warp(image, parameters.expand(image.shape[0], -1), padding)


def fit_similarity(
    reference_mask: torch.Tensor,
    target_mask: torch.Tensor,
    algorithm: Algorithm = "moments",
    max_angle: float | None = None,
) -> Similarity:
    """Minimise the L1 distance of the moved reference's mask and the target's, eq. 9.

    The search begins at the masks' moments: their centres, areas and main axes, in both directions.

    Args:
        reference_mask, target_mask: (h, w) in 0..1, 1 = subject.
        algorithm: "paper" is algorithm 4 as printed: each point of the reference to its nearest one
            of the target, from no motion at all. It never enlarges a subject that is too small.
        max_angle: of the rotation, in radians either way; None = any.
    """
    size = tuple(target_mask.shape)
    require_shape("target_mask", target_mask, ("h", "w"), "Pass one mask")
    require_shape("reference_mask", reference_mask, size, "Resize it to the target's size")
    if algorithm not in get_args(Algorithm):
        raise ValueError(f"algorithm: expected moments or paper, got '{algorithm}'. Choose one.")
    small = min(1.0, SEARCH_SIZE / max(size))
    height, width = (max(1, round(side * small)) for side in size)
    # plain tensors: masks made in inference mode pass no gradient
    with torch.inference_mode(False), torch.enable_grad():
        masks = [
            area_resize(mask.detach().float().cpu().clone(), height, width)
            for mask in (reference_mask, target_mask)
        ]
        for name, mask in zip(("reference_mask", "target_mask"), masks, strict=True):
            if float(mask.max()) <= 0.0:
                raise ValueError(
                    f"{name}: expected 1 where the subject is, got an empty mask. Look at what "
                    "made it."
                )
        limit = math.inf if max_angle is None else abs(max_angle)
        search = _search_from_moments if algorithm == "moments" else _search_as_printed
        found = search(masks[0], masks[1], limit).tolist()
    ratio = size[0] / height
    return Similarity(
        scale=math.exp(found[0]),
        angle=math.remainder(found[1], 2 * math.pi),
        translation=(found[2] * ratio, found[3] * ratio),
        size=(size[0], size[1]),
    )


def _search_from_moments(
    reference: torch.Tensor, target: torch.Tensor, limit: float
) -> torch.Tensor:
    """log scale, angle and translation, (4,), of the best overlap on the way."""
    starts = torch.tensor(_starts(reference, target, limit))
    unit = max(reference.shape) / 2
    best, best_overlap = starts[0], -1.0
    parameters = starts.clone().requires_grad_()
    for blur in BLURS:
        optimizer = torch.optim.Adam([parameters], lr=0.02)
        pair = [_blurred(mask, blur * 2 * unit) for mask in (reference, target)]
        for _ in range(STEPS_PER_BLUR):
            # one length unit for both axes, so that all numbers are of the same size
            with torch.no_grad():
                parameters[:, 1].clamp_(-limit, limit)
                overlaps = _overlap(reference, target, parameters)
                index = int(overlaps.argmax())
                if float(overlaps[index]) > best_overlap:
                    best, best_overlap = parameters[index].clone(), float(overlaps[index])
            moved = _warp(pair[0].expand(len(parameters), 1, -1, -1), parameters, "zeros")
            loss = (moved[:, 0] - pair[1]).abs().sum()
            (gradient,) = torch.autograd.grad(loss, [parameters])
            parameters.grad = gradient * torch.tensor([1.0, 1.0, unit, unit])
            before = parameters.detach().clone()
            optimizer.step()
            with torch.no_grad():
                steps = parameters - before
                parameters.copy_(before + steps * torch.tensor([1.0, 1.0, unit, unit]))
    return best.detach()


def _starts(
    reference: torch.Tensor, target: torch.Tensor, limit: float
) -> Sequence[tuple[float, float, float, float]]:
    """Transforms that carry the reference's centre, area and main axis to the target's."""
    area, centre, axis = _moments(reference)
    wanted_area, wanted_centre, wanted_axis = _moments(target)
    scale = math.sqrt(wanted_area / area)
    turn = wanted_axis - axis
    angles = {0.0, *(math.remainder(turn + half * math.pi, 2 * math.pi) for half in (0, 1))}
    starts = []
    for angle in sorted(angles, key=abs):
        angle = max(-limit, min(limit, angle))
        cosine, sine = math.cos(angle), math.sin(angle)
        x, y = (part / scale for part in wanted_centre)
        shift = (cosine * x + sine * y - centre[0], cosine * y - sine * x - centre[1])
        starts.append((math.log(scale), angle, *shift))
    return starts


def _moments(mask: torch.Tensor) -> tuple[float, tuple[float, float], float]:
    """Area, centre (x, y) from the picture's centre, and direction of the main axis."""
    height, width = mask.shape
    y = torch.arange(height) - (height - 1) / 2
    x = torch.arange(width) - (width - 1) / 2
    area = float(mask.sum())
    rows, columns = mask.sum(dim=1), mask.sum(dim=0)
    centre_x, centre_y = float(columns @ x) / area, float(rows @ y) / area
    spread_x = float(columns @ (x - centre_x).square())
    spread_y = float(rows @ (y - centre_y).square())
    both = float((y - centre_y) @ mask @ (x - centre_x))
    return area, (centre_x, centre_y), math.atan2(2 * both, spread_x - spread_y) / 2


def _search_as_printed(reference: torch.Tensor, target: torch.Tensor, limit: float) -> torch.Tensor:
    """Algorithm 4: gradient steps on the mean distance of each moved point to the nearest one."""
    points, wanted = _points(reference), _points(target)
    unit = max(reference.shape) / 2
    points, wanted = points / unit, wanted / unit
    parameters = torch.zeros(4, requires_grad=True)
    for _ in range(PAPER_STEPS):
        matrix = _linear_part(parameters[None])[0]
        moved = (points + parameters[2:]) @ matrix.T
        nearest = torch.cdist(moved.detach(), wanted).argmin(dim=1)
        loss = (moved - wanted[nearest]).square().sum(dim=1).mean()
        (gradient,) = torch.autograd.grad(loss, [parameters])
        with torch.no_grad():
            parameters -= PAPER_RATE * gradient
            parameters[1].clamp_(-limit, limit)
    return parameters.detach() * torch.tensor([1.0, 1.0, unit, unit])


def _points(mask: torch.Tensor) -> torch.Tensor:
    """x, y from the picture's centre of what is subject, evenly thinned out: (N, 2)."""
    y, x = torch.nonzero(mask > 0.5, as_tuple=True)
    if len(x) == 0:  # thinner than half a cell
        y, x = torch.nonzero(mask == mask.max(), as_tuple=True)
    centre = torch.tensor([(mask.shape[1] - 1) / 2, (mask.shape[0] - 1) / 2])
    points = torch.stack((x, y), dim=1) - centre
    return points[:: max(1, len(points) // PAPER_POINTS)]


def _overlap(
    reference: torch.Tensor, target: torch.Tensor, parameters: torch.Tensor
) -> torch.Tensor:
    """Intersection over union of N moved references and the target: (N,)."""
    moved = _warp(reference.expand(len(parameters), 1, -1, -1), parameters, "zeros")[:, 0]
    both = torch.minimum(moved, target).sum(dim=(1, 2))
    return both / torch.maximum(moved, target).sum(dim=(1, 2))


def _warp(image: torch.Tensor, parameters: torch.Tensor, padding: Padding) -> torch.Tensor:
    """Move (B, C, h, w) by log scale, angle and translation in its pixels, (B, 4)."""
    from kornia.geometry.transform import warp_affine  # heavy: only where it is used

    height, width = image.shape[-2:]
    parameters = parameters.to(image.device, torch.float32)
    matrix = _linear_part(parameters)
    centre = torch.tensor([(width - 1) / 2, (height - 1) / 2], device=image.device)
    shift = centre + (matrix @ (parameters[:, 2:, None] - centre[:, None]))[..., 0]
    forward = torch.cat((matrix, shift[..., None]), dim=-1)
    warped: torch.Tensor = warp_affine(
        image.float(), forward, (height, width), mode="bilinear", padding_mode=padding
    )
    return warped.to(image)


def _linear_part(parameters: torch.Tensor) -> torch.Tensor:
    """scale * R(angle) of (B, 4) parameters: (B, 2, 2)."""
    scale, angle = parameters[:, 0].exp(), parameters[:, 1]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack((cosine, -sine), dim=-1), torch.stack((sine, cosine), dim=-1)
    return torch.stack(rows, dim=-2)


def _blurred(mask: torch.Tensor, sigma: float) -> torch.Tensor:
    """A mask (h, w) with soft edges."""
    if sigma < 0.5:
        return mask
    from kornia.filters import gaussian_blur2d

    size = 2 * min(round(2 * sigma), min(mask.shape) // 2 - 1) + 1
    blurred: torch.Tensor = gaussian_blur2d(
        mask[None, None], (size, size), (sigma, sigma), border_type="constant"
    )
    return blurred[0, 0]
