"""Points as users write them."""

from __future__ import annotations

import pytest
from subject_diffusion_pack.nodes.segmentation.points import parse_points


@pytest.mark.parametrize("text", ["0.5", "1.5,0.2", "0.5,0.2,7", "[[0.1, 0.2], 3]", "nan,0.2"])
def test_what_is_no_point(text: str) -> None:
    with pytest.raises(ValueError, match="points: expected"):
        parse_points(text)


def test_forms() -> None:
    wanted = parse_points("0.5,0.4; 0.9,0.9,0")
    assert [tuple(point) for point in wanted] == [(0.5, 0.4, True), (0.9, 0.9, False)]
    assert parse_points("[[0.5, 0.4, 1], [0.9, 0.9, 0]]") == wanted
    assert parse_points("[0.5, 0.4]") == wanted[:1]
    assert parse_points("  ") == ()
