"""Every fault over Streamable HTTP."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.faults.rig import BACKS, Back
from tests.integration.faults.table import FAULTS, Fault, see


@pytest.mark.parametrize("back", [back for back in BACKS if back.transport == "http"], ids=str)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.tool)
async def test_a_fault_is_told_in_time_and_harms_nobody_else(
    fault: Fault, back: Back, tmp_path: Path
) -> None:
    await see(fault, back, tmp_path)
