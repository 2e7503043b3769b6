"""`duet device`: one device to try out, or a fleet that replays a log against a live cloud."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import Parameter
from rich.table import Table

from duetgen.cli import console
from duetgen.cli.datasets import find_dataset, say_version
from duetgen.cli.prepare import UsageError
from duetgen.cli.ranges import COUNT, SEED, WORKERS
from duetgen.errors import DuetError
from duetgen.wire.messages import Encoding, MetPolicy, Parts
from duetgen.words import counted

if TYPE_CHECKING:
    from duetgen.device import DeviceConfig, Policy
    from duetgen.device.cloud import Cloud
    from duetgen.replay import FleetReport, Percentiles, Session

ProtocolName = Literal["full", "candidates", "given"]


class InvalidTokensFileError(DuetError):
    """A file of the devices' tokens that cannot be read, or lacks a device."""

    code = "invalid-tokens-file"


def device(
    bundle: Annotated[Path, Parameter(help="Bundle folder; generator.onnx is not needed.")],
    /,
    *,
    cloud: Annotated[str | None, Parameter(help="Address of the cloud [stay offline].")] = None,
    token: Annotated[str, Parameter(help="Access token: of the device; for a replay, of scope batch.")] = "",
    tokens_file: Annotated[
        Path | None, Parameter(help="Tokens for a replay: JSON, an object of device ids (device-INDEX) and tokens.")
    ] = None,
    device_id: Annotated[str | None, Parameter(help="Id that the token was made for [kept with the state].")] = None,
    policy: Annotated[
        str, Parameter(help="When to ask for theta: always, every:EVENTS, after:SECONDS or drift:THRESHOLD.")
    ] = "always",
    budget: Annotated[int | None, Parameter(help="At most so many requests a device and day.")] = None,
    encoding: Annotated[Encoding, Parameter(help="Weights of theta on the wire.")] = "float16",
    parts: Annotated[Parts, Parameter(help="Parts of theta to ask for.")] = "both",
    met: Annotated[
        MetPolicy | None,
        Parameter(help="Hide items that the device has met from its rankings, or show them [as the bundle says]."),
    ] = None,
    trust: Annotated[
        list[str] | None, Parameter(negative="", help="Public key that may sign bundles; may be repeated [any].")
    ] = None,
    state: Annotated[Path | None, Parameter(help="Folder that keeps the device's log and theta [memory].")] = None,
    top: Annotated[int | None, Parameter(validator=COUNT, help="How many items to show [10].")] = None,
    replay: Annotated[Path | None, Parameter(help="Dataset: replay its test part on a fleet.")] = None,
    limit_devices: Annotated[
        int | None, Parameter(validator=COUNT, help="Replay a seeded choice of so many devices [all].")
    ] = None,
    speed_up: Annotated[
        float | None, Parameter(help="Log seconds that pass in one second [as fast as it goes].")
    ] = None,
    protocol: Annotated[ProtocolName | None, Parameter(help="What targets are ranked among [as in evaluate].")] = None,
    workers: Annotated[
        int | None, Parameter(validator=WORKERS, help="Devices of a replay that are busy at once [4].")
    ] = None,
    seed: Annotated[int | None, Parameter(validator=SEED, help="Seed of the choice of devices [0].")] = None,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the result of a replay as JSON.")] = False,
) -> None:
    """Run one device, and see its ranking move; or replay a log on a fleet of devices.

    Alone: type a title, or part of one, to have the device observe it. As a replay: each device of the dataset's test
    part ranks before every target and observes it after, asking a live cloud for its parameters as the policy says;
    quality, requests, bytes and times are printed.
    """
    from duetgen.device import Device, DeviceConfig
    from duetgen.replay import LIVELY

    config = (DeviceConfig() if replay is None else LIVELY).changed(
        cloud=cloud,
        token=token,
        device_id=device_id,
        policy=parse_policy(policy, budget),
        state=state,
        trusted=frozenset(trust) if trust else None,
        encoding=encoding,
        parts=parts,
        met=met,
    )
    alone = {"--top": top, "--state": state, "--device-id": device_id}
    fleet = {
        "--tokens-file": tokens_file,
        "--limit-devices": limit_devices,
        "--speed-up": speed_up,
        "--protocol": protocol,
        "--workers": workers,
        "--seed": seed,
        "--json": json or None,
    }
    whose, hint = ("of a replay", "give --replay DATASET") if replay is None else ("of one device", "leave it out")
    for option, value in (fleet if replay is None else alone).items():
        if value is not None:
            raise UsageError(f"{option} is {whose}", hint)
    if replay is None:
        from duetgen.cli.device_shell import run_shell

        with Device(bundle, config) as one:
            run_shell(one, 10 if top is None else top)
        return
    if cloud is None:
        raise UsageError("a replay needs a live cloud", "give --cloud URL; start one with `duet serve BUNDLE --open`")
    if token and tokens_file is not None:
        raise UsageError("--token and --tokens-file exclude each other", "leave one of them out")
    if speed_up is not None and not speed_up > 0:
        raise UsageError(f"--speed-up {speed_up:g} lets no time pass", "give a number above 0, or leave it out")
    report = run_replay(
        bundle,
        replay,
        config,
        tokens=read_tokens(tokens_file),
        devices=limit_devices,
        speed_up=speed_up,
        protocol=protocol,
        workers=4 if workers is None else workers,
        seed=seed or 0,
        quiet=quiet or json,
    )
    if json:
        console.print_json(report)
    else:
        print_report(report)


def parse_policy(text: str, budget: int | None) -> Policy:
    """A policy from `always`, `every:10`, `after:3600` or `drift:0.2`.

    Raises:
        UsageError: none of these.
    """
    from duetgen.device import DailyBudget
    from duetgen.device.policy import policy_named

    try:
        policy = policy_named(text)
    except ValueError as cause:
        raise UsageError(f"--policy {text} is none", str(cause)) from None
    if budget is None:
        return policy
    if budget < 0:
        raise UsageError(f"--budget {budget} is below 0", "give a number of requests a day")
    return DailyBudget(policy, budget)


def read_tokens(path: Path | None) -> dict[str, str] | None:
    """Tokens by device id.

    Raises:
        InvalidTokensFileError: it cannot be read.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(2**28), type=dict[str, str])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as cause:
        raise InvalidTokensFileError(
            f"{path} cannot be read: {cause}", 'write {"device-0": "TOKEN", "device-1": "TOKEN"}'
        ) from cause


def run_replay(
    bundle: Path,
    dataset: Path,
    config: DeviceConfig,
    *,
    tokens: dict[str, str] | None = None,
    devices: int | None = None,
    speed_up: float | None = None,
    protocol: ProtocolName | None = None,
    workers: int = 4,
    seed: int = 0,
    quiet: bool = False,
) -> FleetReport:
    """Replay a dataset's test part on a fleet.

    Args:
        bundle: that the devices run.
        dataset: whose test part they live.
        config: options of each device, the cloud's address among them.
        tokens: of each device by its id; None where the config's holds for all.
        devices: a seeded choice of so many; None for all.
        speed_up: log seconds that pass in one second; None for as fast as it goes.
        protocol: what targets are ranked among; None as in evaluation.
        workers: devices that are busy at once.
        seed: of the choice of devices.
        quiet: no progress.

    Raises:
        DuetError: bundle or dataset is not good, or the cloud cannot be reached at the start.
    """
    from duetgen.data.store import Dataset
    from duetgen.device import DeviceModel, load_model
    from duetgen.device.client import HttpCloud
    from duetgen.device.connection import ConnectionPool
    from duetgen.device.errors import CloudRefusedError, CloudUnreachableError
    from duetgen.replay import Fleet, FleetConfig, Sessions

    model, data = load_model(bundle, config.trusted, DeviceModel), Dataset(find_dataset(dataset, quiet))
    chosen = protocol or ("given" if data.has_given else "full")
    sessions = Sessions(data, model.manifest, chosen, devices, seed)
    say_version(bundle, sessions.dataset)
    if tokens is not None:
        missing = [session.name for session in sessions.all if session.name not in tokens]
        if missing:
            raise InvalidTokensFileError(
                f"there is no token for {counted(len(missing), 'device')}, {missing[0]} for one",
                "make tokens with `duet tokens add`",
            )
    assert isinstance(config.cloud, str)
    # A cloud that is not there, knows nobody here or has another version: one line now, and no table of failures later.
    first = sessions.all[0].name
    with contextlib.closing(ConnectionPool(config.cloud, proxy=config.proxy)) as pool:
        try:
            served = HttpCloud(pool, tokens[first] if tokens else config.token).models(first).models
        except CloudUnreachableError as cause:
            raise CloudUnreachableError(
                cause.message, "start one with `duet serve BUNDLE`, or look at --cloud"
            ) from cause
        if model.model_id not in [one.model_id for one in served]:
            there = ", ".join(f"{one.model_id[:12]}…" for one in served[:3])
            raise CloudRefusedError(
                404,
                "unknown-model",
                f"the cloud does not serve {bundle}, version {model.model_id[:12]}…, but {there}",
                "publish it there, or replay the bundle that is served",
            )

        def connect(session: Session) -> tuple[Cloud, str]:
            own = tokens[session.name] if tokens else config.token
            return HttpCloud(pool, own), own

        fleet = FleetConfig(device=config.changed(state=None), workers=workers, speed_up=speed_up)
        with console.counting(quiet) as progress:
            return Fleet(model, sessions, connect, fleet).run(progress)


def print_report(report: FleetReport) -> None:
    """The figures of a replay, for people."""
    say = console.results.print
    pace = "as fast as it goes" if report.speed_up is None else f"at {report.speed_up:,g} times the log's speed"
    say(
        f"{counted(report.devices, 'device')} of {report.dataset} lived {counted(report.targets, 'target')} {pace}, in "
        f"{report.seconds:.1f} s; policy {report.policy}, theta as {report.encoding}"
    )
    rows = ("as the devices ranked", "with theta = 0", "new items alone", "new items alone, theta = 0")
    say(quality_table(report, list(report.quality), rows))
    if report.repeat_targets:
        share = report.repeat_targets / max(1, report.targets)
        outcome = "hidden, so missed" if report.met == "hide" else "shown"
        say(f"met        {share:.1%} of the targets are items that the device had met: {outcome}")
    age = "" if report.mean_age_events is None else f", {report.mean_age_events:.1f} events old on average"
    say(f"theta      in {report.with_theta:.1%} of the rankings{age}")
    say(f"requests   {report.requests:,} ({report.requests_per_device:.1f} a device), {report.answered:,} answered")
    for name, counts in (("failed", report.failures), ("refused", report.refused)):
        if counts:
            say(f"{name:<10} " + ", ".join(f"{cause} {count:,}" for cause, count in counts.items()))
    each = report.requests or 1
    say(
        f"bytes      {report.bytes_sent:,} up, {report.bytes_received:,} down: {report.bytes_sent / each:,.0f} and "
        f"{report.bytes_received / each:,.0f} a request, {report.bytes_told}"
    )
    for name, times in (("request", report.request), ("ranking", report.ranking), ("late", report.late)):
        if times is not None:
            say(f"{name:<10} {describe(times)}")


def quality_table(report: FleetReport, metrics: Sequence[str], names: tuple[str, str, str, str]) -> Table:
    """Some metrics of a replay; the names are of all targets with theta and without, then of new items alone."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for metric in metrics:
        table.add_column(metric, justify="right")
    found = (report.quality, report.quality_global, report.quality_new, report.quality_global_new)
    for name, values in zip(names, found):
        if values is not None:
            table.add_row(name, *(f"{values[metric]:.4f}" for metric in metrics))
    return table


def describe(times: Percentiles) -> str:
    """Percentiles in one line."""
    return f"p50 {times.p50:.2f} ms, p95 {times.p95:.2f}, p99 {times.p99:.2f}, longest {times.longest:.1f}"
