"""`duet demo`: the main job from start to end, on the embedded data or on a log of one's own; or on images."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from cyclopts import Parameter
from rich.table import Table

from duetgen import jobfolder
from duetgen.cli import console
from duetgen.cli.demo_vision import demo_vision
from duetgen.cli.evaluate import heading, label, notes, print_groups
from duetgen.cli.live import DEVICES, cloud_is_installed, print_live, run_live
from duetgen.cli.prepare import UsageError, images_told, print_manifest
from duetgen.cli.ranges import SEED, Threads, passes
from duetgen.cli.settings import build_config
from duetgen.comparison.report.numbers import interval
from duetgen.documents import damaged, difference, encode_json, encode_sealed, read_sealed
from duetgen.files import write_bytes

if TYPE_CHECKING:
    from duetgen.evaluation import Evaluation
    from duetgen.training import TrainConfig

MARKER = "demo.json"
FOLDERS, RESULTS = ("dataset", "base", "duet", "bundle"), "results.json"
"""What is in a demo's folder at the end, `bundle` if it was served."""


class Job(msgspec.Struct, frozen=True):
    """What a demo folder was made for: the same job goes on in it, another does not.

    `changed` is when the log was last written, in nanoseconds, and how many bytes it has.
    """

    input: str | None
    changed: tuple[int, int] | None
    source: str
    split: str | None
    backbone: str
    epochs: int | None
    seed: int


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row of the closing table: a model under a condition, its difference to the base model, and what that comes to,
    see `evaluation.significance.outcome`.
    """

    name: str
    metrics: dict[str, float]
    low: float | None
    high: float | None
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    verdict: str | None = None


def demo(
    input: Annotated[
        Path | None,
        Parameter(help="A log of your own, or an image folder with --vision [the embedded data]."),
    ] = None,
    /,
    *,
    vision: Annotated[bool, Parameter(negative="", help="Images on devices that see each in its own way.")] = False,
    out: Annotated[Path, Parameter(help="Folder for everything that is made.")] = Path("duet-demo"),
    source: Annotated[str, Parameter(help="Kind of log, as for `duet prepare` [told from the file].")] = "auto",
    split: Annotated[
        Literal["temporal", "leave-one-out"] | None, Parameter(help="How to divide [temporal where there is time].")
    ] = None,
    backbone: Annotated[str, Parameter(help="Device model: sasrec, gru4rec, din.")] = "sasrec",
    epochs: Annotated[
        int | None, Parameter(validator=passes, help="Most passes over the training part, for each model [12].")
    ] = None,
    seed: Annotated[int, Parameter(validator=SEED, help="Seed of everything random.")] = 0,
    threads: Threads = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Begin again in a folder of an earlier demo.")] = False,
    live: Annotated[bool, Parameter(negative="--no-live", help="End with a cloud and fifty devices.")] = True,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the result as JSON.")] = False,
) -> None:
    """See the whole thing work: prepare a log, train the base model and DUET, measure both, serve, run devices.

    Both have the same device model, and DUET keeps it as it is. The table shows DUET with each device's own theta,
    fresh and old, with theta = 0, and with another device's theta, and how far each is from the base model. Then the
    model is published, a cloud is started on this machine, and fifty devices live their part of the log against it.
    Stopped, the same command goes on where it was.
    """
    from duetgen.machine import use_machine

    use_machine(threads)
    if vision:
        if (source, split, backbone, live) != ("auto", None, "sasrec", True):
            raise UsageError("images have no source, split, backbone or live end", "leave these out with --vision")
        demo_vision(input, out, epochs, seed, overwrite=overwrite, silent=quiet or json, json=json)
        return
    job = Job(str(input) if input else None, last_change(input), source, split, backbone, epochs, seed)

    def begin(folder: Path) -> None:
        """What a demo begins with: a log that is refused begins none."""
        write_bytes(folder / MARKER, encode_sealed(job))
        try:
            prepare_log(input, folder / "dataset", source, split, seed, quiet or json)
        except BaseException:
            (folder / MARKER).unlink()
            raise

    with jobfolder.work_in(out, folder_job(out, job, begin), overwrite=overwrite):
        run_demo(input, out, source, split, backbone, epochs, seed, live=live, silent=quiet or json, json=json)


def run_demo(
    input: Path | None,
    out: Path,
    source: str,
    split: str | None,
    backbone: str,
    epochs: int | None,
    seed: int,
    *,
    live: bool,
    silent: bool,
    json: bool,
) -> None:
    """The demo in its folder, step by step."""
    from duetgen.data.store import Dataset
    from duetgen.evaluation import evaluate
    from duetgen.training import load_run
    from duetgen.training import train as run_training

    begun = time.monotonic()
    step(silent, 1, "Prepare the log", "who did what, in which order; divided so that tests lie after training")
    manifest = prepare_log(input, out / "dataset", source, split, seed, silent)
    if not silent:
        print_manifest(manifest, out / "dataset")
    dataset = Dataset(out / "dataset")
    runs = {}
    for number, (method, what) in enumerate(
        {
            "base": "one global model for every device",
            "duet": "a generator of parameters for it, and a cloud model with opinions",
        }.items(),
        start=2,
    ):
        step(silent, number, f"Train {title_of(method)}", what)
        config = demo_config(backbone, method, epochs, seed)
        if method == "duet":
            config = msgspec.structs.replace(config, global_model=str(out / "base"))
        with console.TrainingBar(f"{backbone} {method}", silent) as bar:
            run_training(dataset, config, out / method, progress=bar)
        runs[method] = load_run(out / method)
    step(silent, 4, "Measure both on the test part", "each target predicted from what came before it")
    found = {}
    for method, run in runs.items():
        with console.counting(silent) as progress:
            found[method] = evaluate(run.model, dataset, seed=seed, config=run.settings(), progress=progress)[0]
    rows, new = compare_all(found["base"], found["duet"]), new_items(found["base"], found["duet"])
    report = None
    if live and not cloud_is_installed():
        live = False
        console.notes.print("no cloud at the end: its packages are not here; pip install 'duetgen[cloud]'")
    if live:
        if not json:
            print_result(found["duet"], rows, new)
        step(silent, 5, "Serve it", f"a cloud on this machine, and {DEVICES} devices that live their part of the log")
        report = run_live(runs["duet"], dataset, out, seed, silent)
    folders = [name for name in FOLDERS if live or name != "bundle"]
    result = {
        "dataset": manifest.name,
        "rows": rows,
        "new_items": new,
        "seconds": time.monotonic() - begun,
        "live": report,
        "folders": {name: str(out / name) for name in folders},
        "evaluations": list(found.values()),
    }
    write_bytes(out / RESULTS, encode_json(result))
    if json:
        console.print_json(result)
        return
    if report is None:
        print_result(found["duet"], rows, new)
    else:
        print_live(report)
    made = ", ".join([*folders, RESULTS])
    console.results.print(f"\nDone in {time.monotonic() - begun:.0f} s. Everything is in {out}/: {made}")
    console.results.print(f"  more figures: duet evaluate {out}/duet {out}/dataset --protocol candidates --by-history")
    if live:
        console.results.print(f"  your browser as a device: duet serve {out}/bundle --demo, then open")
        console.results.print("                            http://127.0.0.1:8000/demo/")
        console.results.print(f"  a device in the terminal: duet device {out}/bundle --cloud http://127.0.0.1:8000")


def title_of(method: str) -> str:
    """A method's name as people read it."""
    return "DUET" if method == "duet" else "the base model"


def step(silent: bool, number: int, title: str, what: str) -> None:
    """Say what comes next."""
    if not silent:
        console.results.print()
        console.results.print(console.styled(f"{number}. {title}", "bold", f": {what}"))


def demo_config(backbone: str, method: str, epochs: int | None, seed: int) -> TrainConfig:
    """A small device, a small cloud model and fewer passes: the demo shows what there is, quickly."""
    overrides: dict[str, Any] = {"model.name": backbone, "model.method": method, "seed": seed}
    overrides["model.backbone.width"] = overrides["model.cloud.width"] = 32
    overrides["model.cloud.recurrent"] = 0
    overrides["optimiser.epochs"] = 12 if epochs is None else epochs
    return build_config(None, overrides, [])


def last_change(input: Path | None) -> tuple[int, int] | None:
    """When a log was last written and its size; None where there is none (what reads it says so)."""
    try:
        found = input.stat() if input is not None else None
    except OSError:
        found = None
    return None if found is None else (found.st_mtime_ns, found.st_size)


def folder_job(out: Path, job: Job, begin: Callable[[Path], None]) -> jobfolder.Job:
    """A demo as a job in its folder."""
    marker = out / MARKER
    return jobfolder.Job(
        name="a demo's folder",
        other="a demo of another log or with other settings",
        marker=MARKER,
        begin=begin,
        own=frozenset((*FOLDERS, RESULTS, "key", "cloud.log")),
        differs=lambda: difference(read_sealed(marker, Job, damaged(marker, "give --overwrite to begin again")), job),
    )


def prepare_log(input: Path | None, out: Path, source: str, split: str | None, seed: int, silent: bool) -> Any:
    """The dataset folder's manifest, made now or by an earlier run of the same job."""
    from duetgen.data.prepare import PrepareConfig, prepare
    from duetgen.data.sources.synthetic import SyntheticConfig
    from duetgen.data.store import Dataset

    if (out / Dataset.marker).is_file():
        return Dataset(out).manifest
    config = PrepareConfig(
        source="synthetic" if input is None else source, split=split, seed=seed, synthetic=SyntheticConfig(seed=seed)
    )
    with console.spinner("preparing", silent) as say, images_told(input):
        return prepare(input, out, config, progress=say)


def compare_all(base: Evaluation, duet: Evaluation) -> list[Row]:
    """The rows of the closing table, `ndcg@10` compared with the base model device by device."""
    from duetgen.evaluation import compare
    from duetgen.evaluation.significance import outcome

    def row(name: str, evaluation: Evaluation, condition: str) -> Row:
        metrics = evaluation[condition].metrics
        own = metrics["ndcg@10"]
        means = {metric: metrics[metric].mean for metric in ("ndcg@10", "hr@10", "user_auc")}
        if evaluation is base:
            return Row(name=name, metrics=means, low=own.low, high=own.high)
        difference = compare(duet, base, "ndcg@10", condition_one=condition, condition_other="zero")
        return Row(
            name=name,
            metrics=means,
            low=own.low,
            high=own.high,
            difference=difference.mean,
            difference_low=difference.low,
            difference_high=difference.high,
            verdict=outcome(difference.low, difference.high),
        )

    wanted = [result.name for result in duet.conditions if result.name not in ("own+1", "random")]
    return [row("base", base, "zero"), *(row(label(name, duet), duet, name) for name in wanted)]


def new_items(base: Evaluation, duet: Evaluation) -> str | None:
    """DUET less base on new items alone, in one sentence; None where nothing repeats, or repeats are hidden."""
    from duetgen.evaluation import compare
    from duetgen.evaluation.significance import outcome

    if duet.met == "hide" or "new" not in duet["own"].groups:
        return None
    its, mine = (one.groups["new"].metrics["ndcg@10"] for one in (base["zero"], duet["own"]))
    found = compare(duet, base, "ndcg@10", condition_one="own", condition_other="zero", group="new")
    told = [f"{found.mean:+.4f}", interval(found.low, found.high), outcome(found.low, found.high)]
    return f"On new items alone base has {its:.4f} and DUET {mine:.4f} ({', '.join(part for part in told if part)})."


def print_result(evaluation: Evaluation, rows: list[Row], new: str | None) -> None:
    """The closing table, what it says, and where the files lie."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    for name in ("ndcg@10", "hr@10", "AUC", "against base", "95 % interval", ""):
        table.add_column(name, justify="right" if name else "left")
    for row in rows:
        values = [f"{row.metrics[metric]:.4f}" for metric in ("ndcg@10", "hr@10", "user_auc")]
        if row.difference is None:
            table.add_row(row.name, *values)
            continue
        share = f" ({row.difference / rows[0].metrics['ndcg@10']:+.0%})" if rows[0].metrics["ndcg@10"] else ""
        bounds = interval(row.difference_low, row.difference_high)
        table.add_row(row.name, *values, f"{row.difference:+.4f}{share}", bounds, row.verdict)
    console.results.print(f"\n{heading(evaluation)}")
    for line in notes(evaluation, "the run"):
        console.results.print(line)
    console.results.print(table)
    print_groups(evaluation)
    console.results.print(verdict(rows))
    if new is not None:
        console.results.print(new)


def verdict(rows: list[Row]) -> str:
    """One sentence, whichever way it went."""
    return {
        "ahead": "DUET is ahead of its base model, by more than chance between devices explains.",
        "behind": "DUET is behind its base model here, by more than chance between devices explains.",
        "not told apart": "The interval of the difference holds zero: on so few devices the two are not told apart.",
    }.get(rows[1].verdict or "", "Too few devices to tell the two apart.")
