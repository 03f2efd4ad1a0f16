"""`suanli bench serving` brings up an instance of its own, measures through its doors, and leaves nothing of it."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from benchmarks.system.serving.site import marked_and_below
from tests.integration.instances import Instance, eventually

SHORT = ("bench", "serving", "--duration", "1", "--clients", "1", "--cases", "noop", "-o", "json")


def test_a_short_run_measures_gateway_and_replica_and_leaves_nothing(tmp_path: Path) -> None:
    never_up = Instance(tmp_path)  # whose environment says which home is whose; the benchmark has its own
    before = set(Path("/tmp").glob("sb*/site.yaml"))
    ran = never_up.popen(*SHORT)
    out, err = ran.communicate(timeout=90)
    assert out, err
    told = json.loads(out)
    cases = {case["case"]: case["value"] for case in told["cases"]}
    assert cases["noop_1_client_p50_ms"] > 0
    assert cases["noop_direct_1_client_p50_ms"] > 0
    assert told["provenance"]["missing"] == {}
    assert set(Path("/tmp").glob("sb*/site.yaml")) <= before
    assert not never_up.home.path.exists()


def test_ctrl_c_shows_what_was_measured_and_leaves_nothing(tmp_path: Path) -> None:
    mark = ("BENCH_SERVING_TEST", str(tmp_path))
    command = ("bench", "serving", "--duration", "30", "--cases", "noop", "-o", "json")
    ran = Instance(tmp_path).popen(*command, prefix=("env", "=".join(mark)))
    eventually(lambda: len(marked_and_below(*mark)) > 5, within_s=60, what="an instance lives")
    ran.send_signal(signal.SIGINT)
    out, err = ran.communicate(timeout=60)
    assert ran.returncode == 130, err
    assert json.loads(out)["partial"] is True
    assert marked_and_below(*mark) == []
