"""What is looked at before anything is served, so that a mistake is one line and not a log of dead workers."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Final

from msgspec import UnsetType

from duetgen.cloud.config import ServiceConfig
from duetgen.cloud.errands import Errands, UnfinishedError
from duetgen.cloud.errors import InvalidSettingError, NothingToServeError, OpenModeError
from duetgen.cloud.log import Log
from duetgen.cloud.registry import LOOK_SECONDS, Registry
from duetgen.cloud.tokens import open_store
from duetgen.errors import DuetError
from duetgen.wire.bundle import Manifest, open_bundle
from duetgen.wire.errors import InvalidBundleError

ORIGIN: Final = re.compile(r"\*|null|(?!https://.*:443$)(?!http://.*:80$)[a-z][a-z0-9+.-]*://[^/?#\sA-Z]+")
"""The origin of a page as a browser names it, or any."""


def check_settings(config: ServiceConfig, open_mode: bool) -> None:
    """Refuse settings that make no sense.

    Raises:
        OpenModeError: neither tokens nor the open mode, or both.
        InvalidSettingError: a number out of its range, or what is no origin.
        InvalidTokensError: the store of tokens cannot be read.
        MissingExtraError: the package for PostgreSQL is not here.
    """
    if open_mode != config.open:
        if open_mode:
            raise OpenModeError("--open and --tokens exclude each other", "leave one of them out")
        raise OpenModeError(
            "who may ask? neither --tokens nor --open is given",
            "make tokens with `duet tokens add` and give --tokens FILE, or --open for development on this machine",
        )
    for name, value, least, most in (
        ("workers", config.workers, 1, 1024),
        ("ttl", config.ttl, 1, 10 * 365 * 86_400),
        ("rate", config.rate, 0, 1e6),
        ("burst", config.burst, 1, 1e6),
        ("waiting", config.waiting, 1, 65_536),
        ("body-seconds", config.body_seconds, 0.1, 3600),
        ("poll", config.poll_seconds, 0.05, 86_400),
    ):
        if not least <= value <= most:
            raise InvalidSettingError(f"--{name} {value:g} is out of range", f"give {least:,.10g} to {most:,.10g}")
    for origin in config.origins:
        if not ORIGIN.fullmatch(origin):
            raise InvalidSettingError(
                f"--cors {origin} is no origin that a browser sends",
                "give it as https://shop.example: small letters, no path and no slash at the end, no usual port",
            )
    if config.tokens is not None:
        open_store(config.tokens).close()


def check_sources(config: ServiceConfig) -> tuple[list[Manifest], list[tuple[Path, DuetError]]]:
    """The bundles that can be served, and those that are refused with the reason; graphs are run later, by workers.

    Raises:
        NothingToServeError: a bundle that was named, or all that a registry holds, is refused or missing; or none of
            them is one that the demo page can show.
    """
    sources = [Path(source) for source in config.sources]
    registry = Registry(sources, config.trusted, Log(b"", False), lambda seconds, rows: None)
    errands = Errands(LOOK_SECONDS)
    found: dict[str, Manifest] = {}
    refused: list[tuple[Path, DuetError]] = []
    for source in sources:
        if not source.is_dir():
            raise NothingToServeError(f"{source} is not a folder", "name a bundle made by `duet export`")
    registry.look()
    for path in registry.folders():
        try:
            manifest = errands.run(path, partial(open_bundle, path, trusted=config.trusted)).manifest
            found.setdefault(manifest.model_id, manifest)
        except UnfinishedError:
            refused.append((path, InvalidBundleError(f"{path} cannot be read in time", "look at the disk")))
        except DuetError as error:
            refused.append((path, error))
    if not found:
        reason = f": {refused[0][1].message}" if refused else ""
        raise NothingToServeError(
            f"there is no good bundle in {', '.join(config.sources)}{reason}",
            refused[0][1].hint if refused else "make one with `duet export RUN DATASET --out BUNDLE`",
        )
    if config.demo and not any(isinstance(manifest.model, UnsetType) for manifest in found.values()):
        raise NothingToServeError(
            f"the page of --demo shows rankings, and {next(iter(found.values())).name} ranks no items",
            "leave --demo out, and run a device with duetgen.device.PersonalModel",
        )
    newest_first = sorted(found.values(), key=lambda manifest: (manifest.created, manifest.model_id), reverse=True)
    return newest_first, refused
