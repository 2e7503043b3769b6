"""Writing a bundle: everything is made and checked in memory, then written aside, then appears under its name."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import duetgen
from duetgen.cloudmodel import CloudModel
from duetgen.core import AGES
from duetgen.data.store import Dataset
from duetgen.evaluation.provenance import commit_of
from duetgen.export import canary, graphs, parity, quality
from duetgen.export.canary import shortest
from duetgen.export.errors import NotExportableError
from duetgen.export.folder import entries_of, fill, now, versions
from duetgen.export.items import read_items
from duetgen.export.parts import parts_of, with_parts
from duetgen.export.plausible import learn_bounds
from duetgen.export.retrieval import Retrieval, recall, two_steps
from duetgen.files import new_folder
from duetgen.recommender import Recommender
from duetgen.training.run import Run
from duetgen.wire.bundle import (
    FILES,
    FORMAT_VERSION,
    MANIFEST,
    OPSET,
    SIGNATURE,
    Bundle,
    LayoutEntry,
    Manifest,
    Opinion,
    identify,
    open_bundle,
)
from duetgen.wire.limits import MAX_BUNDLE_NAME, MAX_PARAMETERS
from duetgen.wire.messages import Parts
from duetgen.wire.trust import Trust

Embeddings = Literal["float32", "int8"]
Say = Callable[[str], None]


def export_bundle(
    run: Run,
    dataset: Dataset,
    out: Path,
    *,
    key: Ed25519PrivateKey,
    embeddings: Embeddings = "float32",
    parts: Parts | None = None,
    retrieval: Retrieval = "auto",
    overwrite: bool = False,
    measure: bool = True,
    say: Say | None = None,
) -> Bundle:
    """Publish a run: the folder `out` appears whole, checked and signed, or not at all.

    The same run, dataset and versions give the same `model_id`, on one machine.

    Args:
        run: a finished run with a generator.
        dataset: the dataset folder that it was trained on, or a later version of it: then without the items that came
            since.
        out: the bundle's folder.
        key: signs the manifest.
        embeddings: how the device's graph stores item embeddings.
        parts: of theta that answers shall hold; None: all that count, see `parts.with_parts`.
        retrieval: how the opinion of a sequence model is found: `exact`, from the whole catalogue; `two-step`, see
            `retrieval`; `auto`: in two steps where the catalogue is large.
        overwrite: replace a bundle at `out`.
        measure: put the quality on the validation part into the manifest.
        say: hears what is going on.

    Raises:
        NotExportableError: the run has no generator, not the parts that are wanted, or is beyond the limits.
        DatasetMismatchError: the run was trained on another dataset, or on a later version.
        ParityFailedError: ONNX Runtime does not compute what torch computes.
        OutputExistsError: something is at `out`.
        OutputUnwritableError: it cannot be written.
    """
    say = say or (lambda line: None)
    check_exportable(run)
    dataset = run.view(dataset)
    model = with_parts(run.device_model, parts).eval()
    with new_folder(out, marker=MANIFEST, own=(*FILES, SIGNATURE), overwrite=overwrite) as folder:
        manifest, contents = _make(run, model, dataset, embeddings, retrieval, measure, say)
        fill(folder, manifest, contents, key)
    return open_bundle(out)


def check_exportable(run: Run) -> None:
    """Refuse what makes no bundle.

    Raises:
        NotExportableError: it is no model of a device, or generates nothing, or too much.
    """
    if isinstance(run.model, CloudModel):
        raise NotExportableError(
            "this run is a cloud model: no device runs it",
            "train a DUET that gives its opinions, `duet train DATASET --cloud-model RUN --out DUET`, and export that",
        )
    model = run.model
    if model.config.method == "finetune":
        raise NotExportableError(
            "this run is fine-tuned: each device trains a copy of its own, so there is nothing for a cloud to serve",
            "give its base model a generator, `duet train DATASET --global-model RUN --method duet --out DUET`, and "
            "export that",
        )
    if not model.personal:
        raise NotExportableError(
            "this run is a base model: it has no generator, so there is nothing for a cloud to serve",
            "train with `duet train DATASET --method duet --out RUN`",
        )
    if model.backbone.layout.size > MAX_PARAMETERS:
        raise NotExportableError(
            f"theta has {model.backbone.layout.size} values, at most {MAX_PARAMETERS} are served",
            "train with a smaller --width",
        )


def _make(
    run: Run,
    model: Recommender,
    dataset: Dataset,
    embeddings: Embeddings,
    retrieval: Retrieval,
    measure: bool,
    say: Say,
) -> tuple[Manifest, dict[str, bytes]]:
    layout = model.backbone.layout
    small = graphs.quantised(model) if embeddings == "int8" else None
    published = small or model
    say("exporting the device's graph")
    contents = {"device.onnx": graphs.export_device(published)}
    say("exporting the generator's graph")
    two_step = two_steps(retrieval, model.cloud)
    contents["generator.onnx"] = graphs.export_generator(model, two_step)
    say("learning what is plausible")
    generate = graphs.GeneratorGraph(model).eval()
    bounds, opinion_bounds = learn_bounds(generate, layout, dataset, model.generator_history)
    say("comparing torch and ONNX Runtime")
    device, generator = (parity.session(contents[name]) for name in ("device.onnx", "generator.onnx"))
    worst = parity.check(
        (graphs.DeviceGraph(published).eval(), device),
        (generate, generator),
        window=model.window,
        history=model.generator_history,
        vocabulary=model.vocabulary,
        bounds_P=np.repeat(np.array(bounds, dtype=np.float32), [entry.size for entry in layout.entries]),
    )
    made = canary.make_canary(dataset, device, generator, model.window, model.generator_history)
    contents["canary.json"] = msgspec.json.encode(made)
    contents["items.json"] = msgspec.json.encode(read_items(dataset))
    metrics = {"parity_difference": worst}
    if two_step:
        say("measuring what two steps find")
        metrics["retrieval_recall"] = recall(generator, generate, dataset, model.generator_history)
    if measure:
        say("measuring on the validation part")
        metrics |= quality.measure(model, dataset, small)
    files = entries_of(contents, "train with fewer items")
    manifest = Manifest(
        format_version=FORMAT_VERSION,
        model_id=identify(files),
        name=dataset.manifest.name[:MAX_BUNDLE_NAME],
        backbone=model.config.name,
        window=model.window,
        history=model.generator_history,
        vocabulary=model.vocabulary,
        layout=[LayoutEntry(e.name, list(e.shape), bound) for e, bound in zip(layout.entries, bounds, strict=True)],
        opset=OPSET,
        embeddings=embeddings,
        metrics=metrics,
        met=dataset.manifest.met,
        parts=parts_of(model),
        opinions=opinions_of(model, opinion_bounds),
        trust=trust_of(model),
        created=now(),
        provenance=_provenance(run),
        files=files,
    )
    return manifest, contents


def opinions_of(model: Recommender, bounds: list[float]) -> list[Opinion]:
    """What the manifest says about the opinions."""
    cloud = model.cloud
    return (
        []
        if cloud is None
        else [Opinion(name, cloud.items, one) for name, one in zip(cloud.advisers, bounds, strict=True)]
    )


def trust_of(model: Recommender) -> Trust:
    """What the manifest says about how much theta counts."""
    trust = model.trust
    assert trust is not None
    return Trust(
        list(AGES), shortest(trust.weights_A.numpy()), [shortest(curve.numpy()) for curve in trust.opinions_JA]
    )


def _provenance(run: Run) -> dict[str, str]:
    return {
        "commit": commit_of(Path(duetgen.__file__).parent) or "",
        "config_sha256": hashlib.sha256(run.config.to_toml()).hexdigest(),
        "dataset": run.environment.dataset,
        "dataset_sha256": run.environment.dataset_sha256,
        **({"earlier": " ".join(run.environment.earlier)} if run.environment.earlier else {}),
        "split": run.environment.split,
        "seed": str(run.config.seed),
        "best_epoch": str(run.environment.best_epoch),
        **versions(),
    }
