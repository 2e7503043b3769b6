"""When devices ask for theta, and what that costs them in quality: a cell's run, published and replayed by each policy.

The replay is that of `duet device --replay`, with the generator in this process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from duetgen.data.store import Dataset
from duetgen.device import DeviceModel, load_model
from duetgen.device.cloud import Cloud
from duetgen.device.policy import policy_named
from duetgen.export import export_bundle
from duetgen.replay import LIVELY, Fleet, FleetConfig, LocalCloud, Session, Sessions
from duetgen.training import load_run


class PolicyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a policy.

    Attributes:
        policy: by its name, as in `every:10`.
        requests: sent, a device.
        age: of theta in the rankings that had one, in events, the mean; None where none had.
        metrics: as the devices ranked, averaged by device and then over devices.
        zero: the same rankings with theta = 0.
    """

    policy: str
    requests: float
    age: float | None
    metrics: dict[str, float]
    zero: dict[str, float]

    def gain(self, metric: str) -> float:
        """What theta adds, asked for so."""
        return self.metrics[metric] - self.zero[metric]


def measure_policies(
    root: Path, dataset: Dataset, policies: Sequence[str], protocol: str, limit_devices: int | None
) -> list[PolicyRecord]:
    """Replay the test part of a dataset once for each policy.

    Args:
        root: a finished run with a generator.
        dataset: that it was trained on.
        policies: by name.
        protocol: what targets are ranked among.
        limit_devices: measure a seeded choice of so many.

    Raises:
        DuetError: the run cannot be exported.
    """
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        export_bundle(load_run(root), dataset, bundle, key=Ed25519PrivateKey.generate(), measure=False)
        model, cloud = load_model(bundle, None, DeviceModel), LocalCloud(bundle)
    sessions = Sessions(dataset, model.manifest, protocol, limit_devices)  # type: ignore[arg-type]

    def connect(session: Session) -> tuple[Cloud, str]:
        return cloud, ""

    found = []
    for name in policies:
        config = FleetConfig(device=LIVELY.changed(policy=policy_named(name)), workers=1)
        report = Fleet(model, sessions, connect, config).run()
        found.append(
            PolicyRecord(
                policy=name,
                requests=report.requests_per_device,
                age=report.mean_age_events,
                metrics=report.quality,
                zero=report.quality_global,
            )
        )
    return found
