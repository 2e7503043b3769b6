"""`duet recommend`: lists for many devices, into a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from duetgen.cli import console
from duetgen.cli.datasets import DatasetPath, find_dataset, say_version
from duetgen.cli.prepare import UsageError
from duetgen.cli.ranges import Threads
from duetgen.errors import OutputExistsError
from duetgen.files import check_outside
from duetgen.wire.messages import MetPolicy
from duetgen.words import counted

if TYPE_CHECKING:
    from duetgen.data.store import Dataset, Int64

MAX_K = 10_000


def recommend(
    model: Annotated[Path, Parameter(help="Run folder, or bundle folder.")],
    dataset: DatasetPath,
    /,
    *,
    out: Annotated[Path, Parameter(help="File to write: .parquet or .csv.")],
    devices: Annotated[
        str,
        Parameter(
            help="all, or a file with the original ids of devices, one a line; --devices=- reads standard input."
        ),
    ] = "all",
    k: Annotated[int, Parameter(help="Items of each list.")] = 20,
    theta: Annotated[
        bool, Parameter(negative="--no-theta", help="With each device's own theta, or with the global model.")
    ] = True,
    met: Annotated[
        MetPolicy | None,
        Parameter(help="Hide items that a device has met, or show them [as the dataset has it]."),
    ] = None,
    threads: Threads = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace a file.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print what was written as JSON.")] = False,
) -> None:
    """Write the best items of many devices to a file, each list as that device would show it now.

    Everything in a device's log counts as seen, its test events too. The columns are user, rank, item, title, score.
    """
    from duetgen.data.store import Dataset
    from duetgen.evaluation.lists import best_items
    from duetgen.export.published import load_model
    from duetgen.machine import use_machine

    if out.suffix not in (".parquet", ".csv"):
        raise UsageError(f"--out {out} is of no kind that can be written", "end it in .parquet or .csv")
    if not 1 <= k <= MAX_K:
        raise UsageError(f"--k {k} makes no list", f"give 1 to {MAX_K:,}")
    if out.exists() and not overwrite:
        raise OutputExistsError(f"{out} exists", "give --overwrite to replace it, or choose another --out")
    check_outside(out)
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {out.parent}", "make it, or choose another --out")
    use_machine(threads)
    data = Dataset(find_dataset(dataset, quiet or json))
    recommender, _, data = load_model(model, data)
    say_version(model, data)
    device_U = choose(data, devices)
    with console.counting(quiet or json) as progress:
        item_UK, score_UK = best_items(recommender, data, device_U, k, met=met, personal=theta, progress=progress)
    rows = write(out, data, device_U, item_UK, score_UK, overwrite=overwrite)
    found = {"file": str(out), "devices": len(device_U), "rows": rows}
    if json:
        console.print_json(found)
    else:
        console.results.print(f"{counted(rows, 'item')} for {counted(len(device_U), 'device')}: {out}")


def choose(data: Dataset, devices: str) -> Int64:
    """Indices of the devices that are named.

    Raises:
        UsageError: a file that cannot be read, or an id that the dataset does not have.
    """
    import sys

    import numpy as np
    import polars as pl

    users: list[str] = data.table("devices")["user"].cast(pl.String).to_list()
    if devices == "all":
        return np.arange(len(users), dtype=np.int64)
    try:
        text = sys.stdin.read() if devices == "-" else Path(devices).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as cause:
        raise UsageError(f"cannot read {devices}: {cause}", "give a text file of ids, one a line, or all") from cause
    wanted = [line.strip() for line in text.splitlines() if line.strip()]
    index = {user: number for number, user in enumerate(users)}
    strange = [user for user in wanted if user not in index]
    if strange or not wanted:
        what = f"{len(strange):,} of {len(wanted):,} ids are no devices of {data.root}" if strange else "no id is named"
        raise UsageError(what + (f": {strange[0]!r}" if strange else ""), "give original ids of users, one a line")
    return np.array([index[user] for user in dict.fromkeys(wanted)], dtype=np.int64)


def write(out: Path, data: Dataset, device_U: Int64, item_UK: Any, score_UK: Any, *, overwrite: bool) -> int:
    """Write the lists aside, then under their name; how many rows."""
    import io

    import numpy as np
    import polars as pl

    from duetgen.data.store import FIRST_ITEM
    from duetgen.files import write_bytes

    users = data.table("devices")["user"].cast(pl.String)
    items = data.table("items")
    shown_UK = item_UK >= FIRST_ITEM
    slot_N, rank_N = np.nonzero(shown_UK)
    at_N = item_UK[shown_UK] - FIRST_ITEM
    table = pl.DataFrame(
        {
            "user": users.gather(device_U[slot_N]),
            "rank": rank_N + 1,
            "item": items["item"].gather(at_N),
            "title": items["title"].gather(at_N),
            "score": score_UK[shown_UK],
        }
    )
    content = io.BytesIO()
    if out.suffix == ".csv":
        table.write_csv(content)
    else:
        table.write_parquet(content)
    write_bytes(out, content.getvalue(), replace=overwrite)
    return len(table)
