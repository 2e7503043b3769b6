"""`duet keys`: the keys that sign bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import cyclopts
from cyclopts import Parameter

from duetgen.cli import console

keys = cyclopts.App(
    name="keys",
    help="Make and show the keys that sign bundles.",
    help_format="markdown",
    result_action="return_value",
)


@keys.command
def new(
    *,
    out: Annotated[
        Path | None, Parameter(help="Key file to write [$DUETGEN_KEY, else the development key's place].")
    ] = None,
    json: Annotated[bool, Parameter(negative="", help="Print file and public key as JSON.")] = False,
) -> None:
    """Make an Ed25519 key that its owner alone can read; a key is never overwritten.

    Devices trust the public half, which is printed. Who has the file can publish in your name: keep it off devices and
    servers.
    """
    from duetgen.export.keys import default_path, new_key, public_hex

    path = out or default_path()
    print_key(path, public_hex(new_key(path)), json)


@keys.command
def show(
    *,
    key: Annotated[Path | None, Parameter(help="Key file [$DUETGEN_KEY, else the development key].")] = None,
    json: Annotated[bool, Parameter(negative="", help="Print file and public key as JSON.")] = False,
) -> None:
    """Print the public half of a key: what devices and services are told to trust."""
    from duetgen.export.keys import default_path, load_key, public_hex

    path = key or default_path()
    print_key(path, public_hex(load_key(path)), json)


def print_key(path: Path, public: str, as_json: bool) -> None:
    """File and public half of a key."""
    if as_json:
        console.print_json({"key": str(path), "public_key": public})
        return
    console.results.print(f"key         {path}")
    console.results.print(f"public key  {public}")
