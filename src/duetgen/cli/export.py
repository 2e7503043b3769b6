"""`duet export`: publish a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from duetgen.cli import console
from duetgen.cli.datasets import DatasetPath, find_dataset, say_version
from duetgen.cli.ranges import Threads

if TYPE_CHECKING:
    from duetgen.wire.bundle import Bundle, Manifest


def export(
    run: Annotated[Path, Parameter(help="Run folder of a model with a generator.")],
    dataset: DatasetPath,
    /,
    *,
    out: Annotated[Path, Parameter(help="Bundle folder to write.")],
    key: Annotated[
        Path | None, Parameter(help="Key that signs it [$DUETGEN_KEY, else a development key, made on first use].")
    ] = None,
    embeddings: Annotated[
        Literal["float32", "int8"],
        Parameter(help="How the device's graph stores item embeddings; int8 is a quarter of the download."),
    ] = "float32",
    parts: Annotated[
        Literal["both", "weights", "bias"] | None,
        Parameter(
            help="Parts of theta that devices get [all that count]; an item bias is a list of items, which says more "
            "about a person than weights do."
        ),
    ] = None,
    retrieval: Annotated[
        Literal["auto", "exact", "two-step"],
        Parameter(
            help="How the opinion of a sequence model is found: from the whole catalogue, or first in int8 and then "
            "exactly; auto: in two steps where the catalogue is large."
        ),
    ] = "auto",
    measure: Annotated[
        bool, Parameter(negative="--no-measure", help="Put the quality on the validation part into the manifest.")
    ] = True,
    threads: Threads = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace a bundle.")] = False,
    quiet: Annotated[bool, Parameter(negative="", help="No progress.")] = False,
    json: Annotated[bool, Parameter(negative="", help="Print the manifest as JSON.")] = False,
) -> None:
    """Publish a run as a bundle: two ONNX graphs, items, bounds and a signed manifest.

    Nothing is written unless ONNX Runtime computes what torch computes, for random histories, candidates and
    parameters. The run knows the dataset's content hash: another dataset is refused, a later version of it is read
    without the items that came since.
    """
    from duetgen.data.store import Dataset
    from duetgen.export import export_bundle
    from duetgen.export.bundle import check_exportable
    from duetgen.export.keys import key_to_sign_with, public_hex
    from duetgen.machine import use_machine
    from duetgen.training import load_run

    use_machine(threads)
    loaded, data = load_run(run), Dataset(find_dataset(dataset, quiet or json))
    check_exportable(loaded)
    data = loaded.view(data)
    say_version(run, data)
    signer, place, made = key_to_sign_with(key)
    say_key(place, public_hex(signer), made)
    with console.spinner("exporting", quiet or json) as say:
        bundle = export_bundle(
            loaded,
            data,
            out,
            key=signer,
            embeddings=embeddings,
            parts=parts,
            retrieval=retrieval,
            overwrite=overwrite,
            measure=measure,
            say=say,
        )
    if json:
        console.print_json({"bundle": str(bundle.root), "public_key": public_hex(signer), "manifest": bundle.manifest})
    else:
        print_bundle(bundle)


def say_key(place: Path, public: str, made: bool) -> None:
    """Tell on standard error which key signs, where it matters: one made now, or one that others may read."""
    from duetgen.export.keys import readable_by_others

    if made:
        console.notes.print(
            f"no key was named: made a development key, {place}\n"
            f"  it signs this bundle and later ones; devices trust {public}\n"
            "  for a release, make a key of its own: duet keys new --out FILE"
        )
    if readable_by_others(place):
        console.notes.print(f"warning: others can read the key {place}: chmod 600 {place}")


def print_bundle(bundle: Bundle) -> None:
    """What was published, in a few lines."""
    manifest, files = bundle.manifest, bundle.manifest.files
    parts = ", ".join(f"{name} {file.bytes / 1000:,.0f} kB" for name, file in sorted(files.items()))
    console.results.print(
        f"bundle {bundle.root}: {manifest.backbone} on {manifest.name}, {manifest.embeddings} embeddings"
    )
    console.results.print(f"  model_id   {manifest.model_id}")
    for line, part in enumerate(told_parts(manifest)):
        console.results.print(f"  {'' if line else 'theta':<11}{part}")
    console.results.print(f"  reads      device {manifest.window} events, generator {manifest.history}")
    console.results.print(f"  files      {parts}")
    console.results.print(f"  signed by  {bundle.signature.public_key}")
    for name, value in manifest.metrics.items():
        console.results.print(f"  {name}  {value:.4g}")


def told_parts(manifest: Manifest) -> list[str]:
    """What theta holds, and how much it counts while it is fresh and from which age on it no longer changes."""
    trust, weights = manifest.trust, f"{manifest.size:,} weights in {len(manifest.layout)} tensors"

    def counts(what: str, curve: list[float]) -> str:
        settled = trust.ages[curve.index(curve[-1])]
        return f"{what} (trusted {curve[0]:g} when fresh, {curve[-1]:g} from age {settled} on)"

    opinions = [
        counts(f"{opinion.items} items of {opinion.name}", curve)
        for opinion, curve in zip(manifest.opinions, trust.opinions)
    ]
    return opinions if manifest.parts == "bias" else [counts(weights, trust.weights), *opinions]
