"""One device at a terminal: type what happens, see the ranking move."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence

from rich.table import Table

from duetgen.cli import console
from duetgen.device import Device, NothingToRollBackError
from duetgen.device.items import FIRST_ITEM
from duetgen.device.model import DeviceModel
from duetgen.device.status import Status
from duetgen.errors import DuetError
from duetgen.words import counted

HELP = """\
  TEXT      observe the item of this title or id; part of it is enough if it means one item
  (empty)   show the ranking again
  :ask      ask the cloud for theta now
  :status   everything that the device tells of itself
  :update   look for a new version
  :rollback go back to the version before
  :forget   erase what the device has seen, and its theta
  :quit     end (so does the end of the input)"""
MATCHES = 8
"""How many titles are shown where several match."""


def label(model: DeviceModel, item: str) -> str:
    """What people call an item."""
    index = model.index_of.get(item)
    title = model.titles[index] if model.titles and index is not None else ""
    return f"{title} ({item})" if title and title != item else item


def find(model: DeviceModel, text: str) -> list[str]:
    """Ids of the items that a text may mean: an exact id or title, else titles that begin with it, else hold it."""
    if text in model.index_of:
        return [text]
    names = [(model.titles[index] if model.titles else "") or name for name, index in model.index_of.items()]
    wanted, lowered = text.casefold(), [name.casefold() for name in names]
    ids = list(model.index_of)
    for fits in (
        lambda name: name == wanted,
        lambda name: name.startswith(wanted),
        lambda name: wanted in name,
    ):
        found = [item for item, name in zip(ids, lowered) if fits(name)]
        if found:
            return found
    return []


def lines() -> Iterator[str]:
    """What is typed, or piped."""
    while True:
        if sys.stdin.isatty():
            try:
                yield console.notes.input("[bold]> [/]")
            except EOFError:
                return
        else:
            line = sys.stdin.readline()
            if not line:
                return
            yield line.rstrip("\n")


def run_shell(device: Device, top: int) -> None:
    """Until the input ends."""
    model = device.model
    console.notes.print(
        f"{model.manifest.name}: {counted(model.vocabulary - FIRST_ITEM, 'item')}, {model.manifest.backbone}; "
        "type a title, or :help"
    )
    before: Sequence[str] = ()
    before = show(device, before, top)
    for line in lines():
        text = line.strip()
        if text in (":quit", ":q", ":exit"):
            return
        if text.startswith(":"):
            if not command(device, text):
                continue
        elif text:
            found = find(device.model, text)
            if len(found) != 1:
                print_matches(device.model, text, found)
                continue
            device.observe(found[0])
            console.results.print(f"observed {label(device.model, found[0])}")
        device.settle(2.0)
        before = show(device, before, top)


def command(device: Device, text: str) -> bool:
    """One that begins with a colon. Whether the ranking may have changed."""
    say = console.results.print
    try:
        if text == ":ask":
            say("a new theta" if device.refresh(wait=True) else f"no theta: {why_not(device)}")
        elif text == ":status":
            console.print_json(device.status())
            return False
        elif text == ":update":
            say(f"now {device.status().model_id[:16]}" if device.update() else no_update(device))
        elif text == ":rollback":
            say(f"back to {device.rollback()[:16]}")
        elif text == ":forget":
            device.forget()
            say("forgotten")
        else:
            say(HELP)
            return False
    except NothingToRollBackError as cause:
        say(cause.message)
    except DuetError as cause:
        say(f"{cause.message} [{cause.code}]")
    return True


def why_not(device: Device) -> str:
    """Why no theta came."""
    if device.config.cloud is None:
        return "the device is offline; give --cloud URL"
    return device.status().last_error or "there is nothing to make one from, for the device has seen nothing"


def no_update(device: Device) -> str:
    """Why the version is the same."""
    if device.config.state is None:
        return "no new version: the device keeps none; give --state FOLDER"
    if device.config.cloud is None:
        return "no new version: the device is offline; give --cloud URL"
    return "no new version"


def print_matches(model: DeviceModel, text: str, found: Sequence[str]) -> None:
    """Several titles, or none."""
    if not found:
        console.results.print(f"nothing is called {text!r}")
        return
    console.results.print(f"{len(found):,} items match:")
    for item in found[:MATCHES]:
        console.results.print(f"  {label(model, item)}")
    if len(found) > MATCHES:
        console.results.print("  …")


def show(device: Device, before: Sequence[str], top: int) -> list[str]:
    """The ranking now, each item with where it was before."""
    ranked = device.recommend(top)
    was = {item: place for place, item in enumerate(before)}
    console.results.print(headline(device.status()), style="bold")
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name, justify in (("", "right"), ("", "left"), ("item", "left"), ("score", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    for place, (item, score) in enumerate(ranked):
        moved = was[item] - place if item in was else None
        mark, style = ("new", "cyan") if moved is None else (f"{moved:+}", "green" if moved > 0 else "red")
        mark = "" if moved == 0 or not before else mark
        table.add_row(str(place + 1), console.styled(mark, style), label(device.model, item), f"{score:.3f}")
    console.results.print(table)
    return [item for item, _ in ranked]


def headline(status: Status) -> str:
    """Where the ranking comes from."""
    if status.theta is None:
        source = "the global model (theta = 0)"
    else:
        source = (
            f"own theta, {counted(status.theta.age_events, 'event')} and {status.theta.age_seconds:.0f} s old "
            f"(sequence {status.theta.sequence})"
        )
    trouble = f"; {status.last_error}" if status.last_error else ""
    return f"{counted(status.events, 'event')}; ranked with {source}{trouble}"
