"""Quality against requests, for each request policy, on a replayed log.

    python benchmarks/request_policies.py BUNDLE DATASET [--limit-devices 300] [--encoding float16]

Each device of the test part lives its events in the log's own time; the bundle's generator answers in process, by the
same messages and checks as over the network. Ranked is the whole catalogue, and averages are by device, as in
`duet evaluate`. `gain kept` is how much of the gain of fresh theta over theta = 0 a policy keeps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from duetgen.data.store import Dataset
from duetgen.device import AfterSeconds, Always, DailyBudget, DeviceModel, Drift, EveryEvents, Policy, load_model
from duetgen.device.cloud import Cloud
from duetgen.replay import LIVELY, Fleet, FleetConfig, LocalCloud, Session, Sessions

DAY = 86400.0
POLICIES: dict[str, Policy] = {
    "always": Always(),
    **{f"every {n} events": EveryEvents(n) for n in (2, 5, 10, 20)},
    **{f"after {name}": AfterSeconds(t) for name, t in (("an hour", 3600), ("a day", DAY), ("a week", 7 * DAY))},
    **{f"drift {t}": Drift(t) for t in (0.05, 0.1, 0.2, 0.4)},
    "always, 1 a day": DailyBudget(Always(), 1),
    "always, 3 a day": DailyBudget(Always(), 3),
    "drift 0.1, 1 a day": DailyBudget(Drift(0.1), 1),
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("dataset", type=Path)
    parser.add_argument("--limit-devices", type=int)
    parser.add_argument("--encoding", default="float16")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    model, cloud = load_model(options.bundle, None, DeviceModel), LocalCloud(options.bundle)
    sessions = Sessions(Dataset(options.dataset), model.manifest, devices=options.limit_devices, seed=options.seed)

    def connect(session: Session) -> tuple[Cloud, str]:
        return cloud, ""

    fresh = None
    print(f"{model.manifest.backbone} on {model.manifest.name}, theta as {options.encoding}")
    for name, policy in POLICIES.items():
        config = FleetConfig(device=LIVELY.changed(policy=policy, encoding=options.encoding), workers=1)
        report = Fleet(model, sessions, connect, config).run()
        assert not report.failures, report.failures
        assert not report.refused, report.refused
        own, zero = report.quality["ndcg@10"], report.quality_global["ndcg@10"]
        if fresh is None:
            fresh = own
            print(f"{report.devices:,} devices, {report.targets:,} targets; theta = 0: ndcg@10 {zero:.4f}\n")
            print(f"{'policy':<20} {'ndcg@10':>8} {'gain kept':>9} {'requests a device':>17} {'age, events':>11}")
        kept = f"{(own - zero) / (fresh - zero):.0%}" if fresh != zero else ""
        age = report.mean_age_events or 0.0
        print(f"{name:<20} {own:>8.4f} {kept:>9} {report.requests_per_device:>17.1f} {age:>11.1f}", flush=True)


if __name__ == "__main__":
    main()
