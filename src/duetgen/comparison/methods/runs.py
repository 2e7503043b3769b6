"""Finished runs of `duet train` that stand in a comparison as they are: measured like every method, not trained."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Literal

import msgspec

from duetgen.data.store import Dataset
from duetgen.documents import digest_of
from duetgen.training import Run, load_run
from duetgen.training.run import RunFolder


class FinishedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is, as long as it is the same one.

    Attributes:
        path: its folder, as it was given.
        sha256: of its settings, its weights and what fine-tuning chose.
        kind: the method of comparisons that it is a run of, whatever its settings are.
        backbone: its device model.
        seed: its own.
    """

    path: str
    sha256: str
    kind: Literal["base", "finetune", "finetune-whole", "cloud", "duet"]
    backbone: str
    seed: int


def open_run(path: Path, dataset: Dataset) -> tuple[FinishedRun, Run]:
    """A run folder, told and loaded.

    Raises:
        NotARunError: the folder is no run, is not finished, or is of another version.
        DamagedError: a file is missing or is not what it was.
        DatasetMismatchError: it was trained on another dataset folder.
    """
    run, folder = load_run(path), RunFolder(path)
    run.check_dataset(dataset)
    digest = hashlib.sha256()
    for part in (folder.config, folder.weights, folder.finetune):
        if part.is_file():
            digest.update(bytes.fromhex(digest_of(part)))
    model = run.config.model
    whole = model.method == "finetune" and run.config.finetune.scope == "whole"
    told = FinishedRun(
        path=str(path),
        sha256=digest.hexdigest(),
        kind="finetune-whole" if whole else model.method,
        backbone=model.name,
        seed=run.config.seed,
    )
    return told, run
