"""What `quality.py` keeps of a comparison, and the page and the picture that are made of it.

    python benchmarks/quality_pages.py

Makes `results/quality/README.md` and `results/quality/gains.svg` anew from `results/quality/cells.json`: no data and no
training are needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from duetgen.comparison.methods.table import METHODS
from duetgen.comparison.report.results import BASE, DUET, HEADLINE, JOINTLY, Comparison, Results, Row, Table
from duetgen.evaluation.protocols import full_name
from duetgen.pages.svg import GRID, INK, MUTED, SERIES, VARIABLES, draw_figure
from duetgen.wire.messages import MetPolicy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RESULTS: Final = Path(__file__).parent / "results/quality"
FRESH, OLD, ZERO, ANOTHER = "fresh", "own+20", "zero", "another"
WEIGHTS, OPINIONS = "own-weights", "own-bias"
CONDITIONS: Final = (FRESH, "own+5", OLD, WEIGHTS, OPINIONS, ZERO, ANOTHER)
"""What a record keeps of a method: what it is judged by, theta 5 and 20 events old, its weights and its opinions alone,
theta = 0, another device's theta."""

DATASETS: Final = {
    "ml-1m": "MovieLens 1M",
    "amazon-beauty-5core": "Amazon Beauty",
    "amazon-sports-5core": "Amazon Sports",
    "amazon-video-games-sasrec": "Amazon Video Games",
    "yelp-2019-5core": "Yelp",
    "taobao-mclrec": "Taobao",
    "ml-100k-temporal": "MovieLens 100K, temporal",
    "ml-1m-users-1-2999-temporal": "MovieLens 1M, half, temporal",
}
"""Datasets as people call them, in the order of the page."""
HEAD: Final = (
    *("cell", "devices", "items", "met", "seeds", "base", "base-distilled", "base-ensemble", "cloud"),
    *("its list, 20 events old", "DUET"),
    *("way", "θ, bytes", "DUET less base", "weights alone less base", "opinions alone less base"),
    *(
        "θ 20 events old less base",
        "DUET less base-distilled",
        "another's θ",
        "user AUC, 99 drawn: base",
        "DUET",
        "less base",
    ),
)
DEVICES: Final = {"sasrec": "SASRec", "sasrec-32": "SASRec of width 32", "gru4rec": "GRU4Rec", "din": "DIN"}
"""Device models as people call them; of width 64 where nothing is said."""
CLOUD, CLOUD_LIST, ENSEMBLE, TAUGHT = "cloud", "cloud-list", "base-ensemble", "base-distilled"


class Difference(msgspec.Struct, frozen=True):
    """A method less another one, with its 95 % interval over devices."""

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def negative(self) -> Difference:
        """The other one less the method."""
        low, high = (None if bound is None else -bound for bound in (self.high, self.low))
        return Difference(-self.mean, low, high)


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A method in a cell.

    Attributes:
        ndcg: condition (of `CONDITIONS`) to `ndcg@10` of all targets, in full.
        new: the same, fresh, of the targets that are new to their device; None where nothing repeats.
        drawn: `ndcg@10`, `hr@10`, `user_auc` and `auc` among 99 drawn negatives, fresh.
        less_base: condition to the difference in `ndcg@10`.
        new_less_base: the same, fresh, of the new targets.
        less_duet: the difference in `ndcg@10` from DUET, both fresh.
        auc_less_base: the difference in `user_auc` among drawn negatives, fresh.
        validation: `ndcg@10` on the validation part.
        seconds: of training.
        device_bytes: of what a device holds, its items in int8; None where it was not kept.
        theta_bytes: of theta as it travels; 0 without.
        opinion_bytes: of these, the opinions.
        scoring_ms: to score 100 candidates on one thread; None where it was not kept.
    """

    ndcg: dict[str, float]
    new: float | None
    drawn: dict[str, float]
    less_base: dict[str, Difference]
    new_less_base: Difference | None
    auc_less_base: Difference | None
    validation: float | None
    seconds: float
    device_bytes: int | None = None
    theta_bytes: int = 0
    opinion_bytes: int = 0
    scoring_ms: float | None = None
    less_duet: Difference | None = None


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a cell: no row of the data."""

    cell: str
    met: MetPolicy
    devices: int
    items: int
    targets: int
    unknown_targets: int
    repeat_targets: int
    seeds: int
    commits: list[str]
    days: list[str]
    methods: dict[str, Measured]

    @property
    def names(self) -> tuple[str, str]:
        """Dataset and device model."""
        dataset, device = self.cell.split("/")
        return dataset, device

    @property
    def way(self) -> str | None:
        """How DUET is trained by what the validation part prefers: on base, or jointly; None without DUET."""
        found = {name: one.validation or 0.0 for name in (DUET, JOINTLY) if (one := self.methods.get(name)) is not None}
        return max(found, key=lambda name: found[name]) if found else None

    @property
    def chosen(self) -> Measured | None:
        """DUET, trained in that way."""
        return None if self.way is None else self.methods[self.way]


def keep(cell: str, results: Results) -> Record:
    """The record of a comparison; its first protocol is `full`, its last has drawn negatives."""
    full, drawn = results.tables[0], results.tables[-1]
    assert results.origin is not None
    return Record(
        cell=cell,
        met=full.met,
        devices=full.devices,
        items=results.dataset.items,
        targets=full.targets,
        unknown_targets=full.unknown_targets,
        repeat_targets=full.repeat_targets,
        seeds=max(len(row.seeds) for row in full.rows),
        commits=[commit if " " in commit else commit[:7] for commit in results.origin.commits],
        days=sorted({results.origin.first[:10], results.origin.last[:10]}),
        methods={row.method: measured(row, full, drawn) for row in full.rows},
    )


def measured(row: Row, full: Table, drawn: Table) -> Measured:
    """What a record keeps of a method."""
    of = {FRESH: row.headline} | {name: name for name in CONDITIONS[1:]}
    ndcg = {name: value.mean for name, condition in of.items() if (value := row.value(HEADLINE, condition))}
    less = {
        name: one
        for name, condition in of.items()
        if (one := difference(against(BASE, full, row.method, condition, HEADLINE))) is not None
    }
    fresh, among = row.condition(), drawn.row(row.method)
    new = None if fresh is None or "new" not in fresh.groups else fresh.groups["new"].metrics[HEADLINE]
    metrics = (HEADLINE, "hr@10", "user_auc", "auc")
    found = {name: value.mean for name in metrics if among is not None and (value := among.value(name))}
    return Measured(
        ndcg={name: round(value, 6) for name, value in ndcg.items()},
        new=None if new is None else round(new, 6),
        drawn={name: round(value, 6) for name, value in found.items()},
        less_base=less,
        new_less_base=difference(against(BASE, full, row.method, row.headline, HEADLINE, "new")),
        auc_less_base=difference(against(BASE, drawn, row.method, row.headline, "user_auc")),
        validation=None if row.validation is None else round(row.validation, 6),
        seconds=round(row.fit_seconds, 1),
        device_bytes=row.cost.device_bytes,
        theta_bytes=row.cost.theta_bytes,
        opinion_bytes=row.cost.opinion_bytes,
        scoring_ms=round(row.cost.scoring_ms, 3),
        less_duet=difference(against(DUET, full, row.method, row.headline, HEADLINE)),
    )


def against(
    other: str, table: Table, method: str, condition: str, metric: str, group: str = "all"
) -> Comparison | None:
    """A method under a condition against another one; None where it was not measured."""
    row = table.row(other)
    return None if row is None else table.find(method, condition, other, row.headline, metric, group)


def difference(one: Comparison | None) -> Difference | None:
    """What a record keeps of a comparison of two."""
    if one is None:
        return None
    bounds = [None if bound is None else round(bound, 6) for bound in (one.low, one.high)]
    return Difference(round(one.mean, 6), *bounds)


def records() -> list[Record]:
    """What is kept, in the order of the page."""
    file = RESULTS / "cells.json"
    found = msgspec.json.decode(file.read_bytes(), type=list[Record]) if file.is_file() else []
    return sorted(found, key=lambda one: (list(DATASETS).index(one.names[0]), list(DEVICES).index(one.names[1])))


def merged(before: Record | None, now: Record) -> Record:
    """A cell's new record, with the methods of the one before that it has not, where both have the same base model.

    A method less base is paired with the base model of its own run, so records of different ones are not mixed.
    """
    if before is None or before.methods[BASE].ndcg != now.methods[BASE].ndcg:
        return now
    found = before.methods | now.methods
    return msgspec.structs.replace(
        now,
        methods={name: found[name] for name in METHODS if name in found},
        commits=sorted({*before.commits, *now.commits}),
        days=sorted({*before.days, *now.days}),
    )


def write_cell(cell: str, results: Results) -> None:
    """Keep what was measured of a cell, and make the page anew."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    before = {one.cell: one for one in records()}
    kept = list((before | {cell: merged(before.get(cell), keep(cell, results))}).values())
    (RESULTS / "cells.json").write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    write_page()


def write_page() -> None:
    """The page and its picture, of all cells that are kept."""
    found = records()
    (RESULTS / "README.md").write_text(page(found))
    (RESULTS / "gains.svg").write_text(picture(found))


def page(found: list[Record]) -> str:
    """The picture and two tables: DUET against base in every cell, and every method."""
    lines = [
        "# Quality on public data",
        "",
        "Test parts, `ndcg@10`; settings are the defaults, which the dataset decides. What a device has met is hidden",
        "from the ranking where events hardly repeat (*hidden*), else shown (*shown*). DUET is trained for the",
        "finished base model, or jointly with its global model where the validation part prefers that; its θ has",
        "weights and opinions of a cloud model. *cloud* ranks on the cloud itself; *base-ensemble* is base on a device",
        "that carries a counting model too. *base-distilled* has learnt from the cloud model, and is the global model",
        "of DUET where the validation part prefers it; a cell without it was measured before that was so. Intervals",
        "are 95 % over devices.",
        "Made by `python benchmarks/quality.py --write`.",
        "",
        "![DUET less base in every cell](gains.svg)",
        "",
        counts(found),
        "",
        f"| {' | '.join(HEAD)} |",
        f"|---|---:|---:|---|{'---:|' * 7}---|{'---:|' * 10}",
        *(duet_line(one) for one in found),
        "",
        "## Every method",
        "",
        "`ndcg@10` in full; in brackets, where repeats are shown, of new items alone. *drawn*: `ndcg@10` among 99",
        "drawn negatives. *kB*: what a device holds, its items in int8, and θ. *ms*: to score 100 candidates in",
        "torch on one thread. Minutes of training are of one busy core. No *AUC* stands where it was measured",
        "before what is added to some items left the others comparable between devices.",
        "",
        "| cell | method | ndcg@10 | less base | θ = 0 | drawn | user AUC | AUC | kB | ms | minutes |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
        *(method_line(one, name) for one in found for name in one.methods),
        "",
        "Commits "
        + ", ".join(sorted({commit for one in found for commit in one.commits}))
        + "; "
        + ", ".join(sorted({day for one in found for day in one.days}))
        + ".",
        "",
    ]
    return "\n".join(lines)


def title(record: Record) -> str:
    """A cell as people call it."""
    dataset, device = record.names
    return f"{DATASETS[dataset]}, {DEVICES[device]}"


def counts(found: list[Record]) -> str:
    """In how many cells the interval of DUET less base is above zero and below it, fresh and old, in one sentence."""
    cells = [one.chosen for one in found if one.chosen is not None]
    said = []
    for condition, name in ((FRESH, "fresh"), (OLD, "with θ 20 events old")):
        those = [one.less_base[condition] for one in cells if condition in one.less_base]
        above = sum(one.low is not None and one.low > 0 for one in those)
        below = sum(one.high is not None and one.high < 0 for one in those)
        said.append(f"{name} above zero in {above} and below it in {below}")
    return f"Of {len(cells)} cells the 95 % interval of DUET less base is {', '.join(said)}."


def duet_line(record: Record) -> str:
    """A cell: DUET against base."""
    base, duet = record.methods[BASE], record.chosen
    cells = [title(record), f"{record.devices:,}", f"{record.items:,}", full_name("full", record.met).split()[-1]]
    cells += [str(record.seeds), figure(base.ndcg[FRESH])]
    for name, condition in ((TAUGHT, FRESH), (ENSEMBLE, FRESH), (CLOUD, FRESH), (CLOUD_LIST, OLD)):
        cells.append(figure(record.methods[name].ndcg.get(condition)) if name in record.methods else "")
    if duet is None:
        return f"| {' | '.join([*cells, *[''] * (len(HEAD) - len(cells))])} |"
    cells += [figure(duet.ndcg[FRESH]), "jointly" if record.way == JOINTLY else "on base"]
    cells.append(f"{duet.theta_bytes:,}" if duet.theta_bytes else "")
    cells += [interval(duet.less_base.get(condition)) for condition in (FRESH, WEIGHTS, OPINIONS, OLD)]
    taught = record.methods[TAUGHT].less_duet if TAUGHT in record.methods and record.way == DUET else None
    cells += [interval(None if taught is None else taught.negative), figure(duet.ndcg.get(ANOTHER))]
    cells += [figure(base.drawn.get("user_auc")), figure(duet.drawn.get("user_auc")), interval(duet.auc_less_base)]
    return f"| {' | '.join(cells)} |"


def method_line(record: Record, name: str) -> str:
    """A method in a cell."""
    one = record.methods[name]
    new = "" if record.met == "hide" or one.new is None else f" ({figure(one.new)})"
    less = interval(one.less_base.get(FRESH))
    if new and one.new_less_base is not None:
        less += f"; new {interval(one.new_less_base)}"
    drawn = [figure(one.drawn.get(metric)) for metric in (HEADLINE, "user_auc", "auc")]
    zero = figure(one.ndcg.get(ZERO)) if ANOTHER in one.ndcg else ""
    size = "" if one.device_bytes is None else f"{one.device_bytes / 1000:,.0f}"
    size += f" + {one.theta_bytes / 1000:.1f}" if size and one.theta_bytes else ""
    spent = ["" if one.scoring_ms is None else f"{one.scoring_ms:.2f}", f"{one.seconds / 60:.0f}"]
    cells = [title(record), name, figure(one.ndcg[FRESH]) + new, less, zero, *drawn, size, *spent]
    return f"| {' | '.join(cells)} |"


def figure(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4f}"


def interval(one: Difference | None) -> str:
    """A difference with its interval."""
    if one is None:
        return ""
    return f"{one.mean:+.4f}" + ("" if one.low is None or one.high is None else f" ({one.low:+.4f} to {one.high:+.4f})")


PALETTE: Final = {
    INK: ("#1d2330", "#e8ebf2"),
    MUTED: ("#5b6475", "#9aa4b8"),
    GRID: ("#dfe3ea", "#353d4c"),
    SERIES[0]: ("#0b7a53", "#3ecb96"),
    SERIES[1]: ("#8a93a3", "#7f8a9d"),
    SERIES[2]: ("#c2410c", "#fb8a4c"),
}
"""A stand-in of `comparison.svg` to its colour on light and on dark pages."""


def picture(found: list[Record]) -> str:
    """How far DUET is from base in every cell, as one SVG file for light and dark."""
    cells = [one for one in found if one.chosen is not None]
    words = " ".join([counts(found), *(f"{title(one)}: {told(one)}" for one in cells)])

    def panel(figure: Figure) -> None:
        paint(figure.add_subplot(), cells)

    svg = draw_figure("gains", "DUET less base in every cell", words, panel, (7.6, 1.3 + 0.34 * len(cells)))
    light, dark = (
        "".join(f"{VARIABLES[stand_in][4:-1]}:{pair[side]};" for stand_in, pair in PALETTE.items()) for side in (0, 1)
    )
    style = f"<style>svg{{{light}}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}</style>"
    head, _, body = svg.partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">{style}{body}'


def told(record: Record) -> str:
    """A cell in words, for those who cannot see the picture."""
    assert record.chosen is not None
    return f"{interval(record.chosen.less_base.get(FRESH))} in {HEADLINE}."


def paint(axes: Axes, cells: list[Record]) -> None:
    """The difference of each cell with its interval in per cent of base, and where old and another's theta stand."""
    axes.axvline(0, color=MUTED, linewidth=1)
    for y, record in enumerate(cells):
        duet, base = record.chosen, record.methods[BASE].ndcg[FRESH]
        assert duet is not None
        one = duet.less_base.get(FRESH)
        if one is None or not base:
            continue
        low, high = (one.mean if bound is None else bound for bound in (one.low, one.high))
        colour = SERIES[0] if low > 0 else SERIES[2] if high < 0 else SERIES[1]
        axes.plot([100 * low / base, 100 * high / base], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
        axes.plot(100 * one.mean / base, y, "o", color=colour, markersize=5.5)
        for condition, mark in ((OLD, "|"), (ANOTHER, "x")):
            if condition in duet.ndcg:
                place = 100 * (duet.ndcg[condition] / base - 1)
                axes.plot(place, y, mark, color=INK, markersize=8 if mark == "|" else 4, markeredgewidth=1.2)
    for colour, words in ((SERIES[0], "ahead"), (SERIES[1], "not told apart"), (SERIES[2], "behind")):
        axes.plot([], [], "o-", color=colour, markersize=5.5, linewidth=2.4, label=words)
    axes.plot([], [], "|", color=INK, markersize=8, label="θ 20 events old")
    axes.plot([], [], "x", color=INK, markersize=4, label="another's θ")
    axes.set_yticks(range(len(cells)), [title(one) for one in cells])
    axes.set_ylim(len(cells) - 0.5, -0.6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{HEADLINE}, DUET less base, % of base")
    axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=5, frameon=False, labelcolor=MUTED, fontsize=7.5)


if __name__ == "__main__":
    write_page()
