"""The last step of `duet demo`: the duet itself, a cloud on loopback and fifty devices that live their log."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from duetgen.cli import console
from duetgen.cli.device import describe, quality_table, run_replay
from duetgen.errors import DuetError
from duetgen.words import counted

if TYPE_CHECKING:
    from duetgen.data.store import Dataset
    from duetgen.replay import FleetReport
    from duetgen.training.run import Run

DEVICES: Final = 50


class CloudFailedError(DuetError):
    """The cloud that the demo starts did not come up."""

    code = "cloud-failed"


class _Ready(msgspec.Struct):
    url: str


def cloud_is_installed() -> bool:
    """Whether the packages of the cloud are here."""
    return all(importlib.util.find_spec(name) for name in ("granian", "starlette", "prometheus_client"))


@contextlib.contextmanager
def cloud_on_loopback(bundle: Path, log: Path) -> Iterator[str]:
    """A cloud in a process of its own, in the open development mode: its address.

    Raises:
        CloudFailedError: it did not come up.
    """
    command = [sys.executable, "-m", "duetgen", "serve", str(bundle), "--open", "--port", "0", "--json"]
    with log.open("wb") as notes:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=notes)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            with contextlib.suppress(msgspec.DecodeError):
                yield msgspec.json.decode(line, type=_Ready).url
                return
        raise CloudFailedError("the cloud did not start", f"see {log}")
    finally:
        process.send_signal(signal.SIGINT)  # Nobody asks any more: at once.
        try:
            process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def run_live(run: Run, dataset: Dataset, out: Path, seed: int, silent: bool) -> FleetReport:
    """Publish a run, serve it, and replay devices against it.

    Raises:
        DuetError: one of these failed.
    """
    from duetgen.export import export_bundle
    from duetgen.export.keys import load_key, new_key
    from duetgen.replay import LIVELY

    place = out / "key"
    key = load_key(place) if place.is_file() else new_key(place)
    with console.spinner("publishing", silent) as say:
        bundle = export_bundle(run, dataset, out / "bundle", key=key, overwrite=True, measure=False, say=say)
    with cloud_on_loopback(bundle.root, out / "cloud.log") as url:
        return run_replay(
            bundle.root, dataset.root, LIVELY.changed(cloud=url), devices=DEVICES, seed=seed, quiet=silent
        )


def print_live(report: FleetReport) -> None:
    """What went over the network, and what it bought."""
    rows = ("with theta from the cloud", "with theta = 0", "new items alone, with theta", "new items alone, theta = 0")
    say = console.results.print
    say(f"{counted(report.devices, 'device')} asked before each of {counted(report.targets, 'target')}")
    say(quality_table(report, ("ndcg@10", "hr@10", "user_auc"), rows))
    each = max(report.requests, 1)
    say(
        f"  {report.requests:,} requests, {report.bytes_sent / each:,.0f} bytes up and "
        f"{report.bytes_received / each:,.0f} down each, {report.bytes_told}"
    )
    if report.request is not None and report.ranking is not None:
        say(f"  asking:  {describe(report.request)}")
        say(f"  ranking: {describe(report.ranking)}")
