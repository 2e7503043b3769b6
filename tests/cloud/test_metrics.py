"""What is counted, and how the workers' counts are added up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.parser import text_string_to_metric_families

from duetgen.cloud.clock import Clock
from duetgen.cloud.metrics import Recorder, Totals, histogram
from duetgen.cloud.peers import Peers

from .test_parameters import GOOD, post


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_metrics_tell_rates_errors_stages_versions_and_ages(client: Any) -> None:
    for age in (None, 30_000, 90_000):
        post(client, GOOD if age is None else {**GOOD, "age_ms": age})
    post(client, {**GOOD, "history": []})
    client.get("/made/up")
    found = samples(client.get("/metrics").text)
    assert found["duet_requests_total", (("endpoint", "parameters"), ("status", "200"))] == 3
    assert found["duet_requests_total", (("endpoint", "other"), ("status", "404"))] == 1
    assert found["duet_errors_total", (("code", "invalid-history"),)] == 1
    assert found["duet_parameters_age_seconds_bucket", (("le", "60"),)] == 1
    assert found["duet_parameters_age_seconds_bucket", (("le", "300"),)] == 2
    assert found["duet_parameters_age_seconds_sum", ()] == 120
    # 20 values of 4 bytes each; the version has no opinions.
    assert found["duet_parameters_part_bytes_total", (("part", "weights"),)] == 3 * 80
    assert found["duet_parameters_part_bytes_total", (("part", "bias"),)] == 0
    for stage in ("read", "decode", "encode", "total"):
        assert found["duet_stage_seconds_count", (("stage", stage),)] == 3
    assert sum(value for (name, _), value in found.items() if name == "duet_model") == 1
    assert sum(value for (name, _), value in found.items() if name == "duet_parameters_total") == 3
    assert not any("made" in str(key) for key in found)


def test_workers_are_added_up_and_those_that_ended_stay(tmp_path: Path) -> None:
    recorder = Recorder(Peers(tmp_path), lambda: (["a"], "a", ["invalid-bundle", "canary-failed", "invalid-bundle"]))
    recorder.totals.requests["parameters 200"] = 5
    recorder.totals.stages["total"].observe(0.0003)
    other = Totals()
    other.requests["parameters 200"] = 7
    other.stages["total"].observe(0.0003)
    other.stages["total"].observe(100.0)
    (tmp_path / "totals-1").write_bytes(msgspec.msgpack.encode(other))
    (tmp_path / "totals-2").write_bytes(b"damaged")
    recorder.write()
    found = samples(recorder.exposition().decode())
    assert found["duet_requests_total", (("endpoint", "parameters"), ("status", "200"))] == 12
    assert found["duet_stage_seconds_bucket", (("le", "0.0005"), ("stage", "total"))] == 2
    assert found["duet_stage_seconds_bucket", (("le", "+Inf"), ("stage", "total"))] == 3
    assert found["duet_bundles_refused", (("code", "invalid-bundle"),)] == 2
    assert recorder.totals.requests["parameters 200"] == 5


def test_histogram_counts_a_bound_below_it() -> None:
    found = histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 9.0):
        found.observe(value)
    assert (found.counts, found.total) == ([2, 1, 1], 12.0)


def test_sequence_grows_although_the_clock_is_set_back(monkeypatch: Any) -> None:
    times = iter([1_000_000, 2_000_000, 1_500_000, 1_500_000, 9_000_000])
    monkeypatch.setattr("time.monotonic_ns", lambda: next(times))
    clock = Clock(offset=0)
    assert [clock.next() for _ in range(5)] == [1000, 2000, 2001, 2002, 9000]
