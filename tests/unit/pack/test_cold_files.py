"""What a layer's runtime says of files that the layer does not have."""

from __future__ import annotations

import pytest

from layer_minimizer.layer.file_index import BY_COLD_KEEP, BY_GPU_KEEP
from layer_minimizer.model.plan import Cold, Decision, KeepPlan, Reason, Verdict
from layer_minimizer.pack import cold_files

PLAN = KeepPlan(
    python="3.11.7",
    decisions=tuple(
        Decision(path, 1, path.partition("/")[0], verdict, reason, "")
        for path, verdict, reason in (
            ("used/a.py", Verdict.KEPT, Reason.TRACED),
            ("used/b.py", Verdict.DROPPED, Reason.UNUSED),
            ("used/b.c", Verdict.DROPPED, Reason.DEVELOPMENT),
            ("used/c.py", Verdict.DROPPED, Reason.EXCLUDED),
            ("used/d.so", Verdict.DROPPED, Reason.GPU),
            ("used/e.py", Verdict.DROPPED, Reason.STAND_IN),
            ("idle/a.py", Verdict.DROPPED, Reason.STAND_IN),
            ("idle/b.py", Verdict.DROPPED, Reason.UNUSED),
            ("other/a.py", Verdict.DROPPED, Reason.UNUSED),
            ("above/a.py", Verdict.DROPPED, Reason.PROVIDED),
        )
    ),
    folders=(),
    chains=(),
    stand_ins=(),
)


@pytest.mark.parametrize("cold", list(Cold))
def test_cold_keep_is_advised_where_it_would_help(cold: Cold) -> None:
    rows = cold_files.left_out(PLAN, {"used/a.py"}, {"used": "1.0"}, cold, {"used/d.so", "used/e.py"})
    helped = {row.path for row in rows if row.offset == BY_COLD_KEEP}
    assert {row.path for row in rows} == {each.path for each in PLAN.decisions} - {"used/a.py", "above/a.py"}
    assert helped == (set() if cold is Cold.KEEP else {"used/b.py", "idle/a.py", "idle/b.py"})
    assert {row.path for row in rows if row.offset == BY_GPU_KEEP} == {"used/d.so", "used/e.py"}
    assert {row.owner for row in rows} == {"used 1.0", "idle", "other"}
