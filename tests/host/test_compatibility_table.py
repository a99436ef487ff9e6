"""docs/compatibility's table of other nodes says what the tests show, and nothing else."""

from __future__ import annotations

import test_beside_compiled
import test_beside_flows
from beside_patches import PATCHES
from beside_setup import ROWS
from host_models import ROOT

HEADER = "| beside | KSampler | Guider | |"


def documented() -> dict[str, tuple[str, str]]:
    """Row -> what comes of it with KSampler and with the Guider."""
    text = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
    _, _, table = text.partition(HEADER)
    rows = table.split("\n\n")[0].strip().splitlines()[1:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in rows]
    return {name: (ksampler, guider) for name, ksampler, guider, _ in cells}


def test_every_row_has_a_test_and_every_test_a_row() -> None:
    assert test_beside_flows.__doc__ and test_beside_compiled.__doc__  # register their rows
    tested = {**dict.fromkeys(PATCHES, "works"), **ROWS}
    assert documented() == {name: (outcome, outcome) for name, outcome in tested.items()}
