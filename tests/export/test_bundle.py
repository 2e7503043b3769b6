"""What an export writes: items, bounds, canary, metrics, signature; the same again for the same run."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
import polars as pl
import pytest
import torch
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from tests.bundles import BLEND, tiny_bundle, untrained_run
from tests.conftest import MakeDataset, wandering_sequences
from tests.signing import KEY, public

from duetgen.data.store import UNKNOWN, Dataset
from duetgen.documents import DamagedError, digest_of
from duetgen.errors import OutputExistsError
from duetgen.export import export_bundle, graphs
from duetgen.export.canary import shortest
from duetgen.export.items import read_items
from duetgen.export.plausible import MARGIN, SMALLEST, histories, learn_bounds
from duetgen.export.quality import measure
from duetgen.wire.bundle import Bundle, Items, open_bundle
from duetgen.wire.trust import Trust


@pytest.fixture
def ready_graphs(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exporting gives the graphs of the tiny bundle at once; the gate still compares them."""
    monkeypatch.setattr(graphs, "export_device", lambda model: bundle.read("device.onnx"))
    monkeypatch.setattr(graphs, "export_generator", lambda model, two_step: bundle.read("generator.onnx"))


def test_the_same_run_gives_the_same_bundle(advised: Bundle, bundle_dataset: Dataset, tmp_path: Path) -> None:
    again = tiny_bundle(tmp_path / "again", bundle_dataset, cloud=BLEND)
    assert again.manifest.model_id == advised.manifest.model_id
    assert again.manifest.files == advised.manifest.files
    assert again.manifest.opinions == advised.manifest.opinions


def test_the_manifest_says_what_it_is(bundle: Bundle, bundle_dataset: Dataset) -> None:
    manifest = bundle.manifest
    assert (manifest.name, manifest.backbone, manifest.embeddings) == ("synthetic", "sasrec", "float32")
    assert (manifest.window, manifest.history, manifest.vocabulary) == (6, 20, bundle_dataset.vocabulary)
    assert [(entry.name, entry.shape) for entry in manifest.layout] == [
        ("0.weight", [16, 16]),
        ("0.bias", [16]),
        ("2.weight", [16, 16]),
        ("2.bias", [16]),
    ]
    assert manifest.provenance["dataset_sha256"] == bundle_dataset.manifest.content_sha256
    assert manifest.metrics["parity_difference"] < 1e-4
    assert str(Path.home()) not in json.dumps(manifest.provenance)


def test_a_proper_library_takes_the_signature(bundle_folder: Path) -> None:
    content = (bundle_folder / "manifest.json").read_bytes()
    signature = json.loads((bundle_folder / "signature.json").read_bytes())
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(signature["public_key"]))
    key.verify(bytes.fromhex(signature["signature"]), content)
    with pytest.raises(InvalidSignature):
        key.verify(bytes.fromhex(signature["signature"]), content.replace(b"synthetic", b"synthetik"))


def test_the_canary_sings_in_plain_onnx_runtime(bundle_folder: Path) -> None:
    """What an implementer in another language does first; nothing of duetgen in it."""
    canary = json.loads((bundle_folder / "canary.json").read_bytes())
    manifest = json.loads((bundle_folder / "manifest.json").read_bytes())
    generator = onnxruntime.InferenceSession(bundle_folder / "generator.onnx")
    device = onnxruntime.InferenceSession(bundle_folder / "device.onnx")
    history = np.array([canary["history"]], np.int64)
    (theta,) = generator.run(["theta"], {"history": history})
    np.testing.assert_allclose(theta[0], canary["theta"], atol=1e-5)
    inputs = {"history": history[:, -manifest["window"] :], "candidates": np.array([canary["candidates"]], np.int64)}
    (scores,) = device.run(["scores"], {"theta": theta, **inputs})
    (fallback,) = device.run(["scores"], {"theta": np.zeros_like(theta), **inputs})
    np.testing.assert_allclose(scores[0], canary["scores"], atol=1e-5)
    np.testing.assert_allclose(fallback[0], canary["fallback_scores"], atol=1e-5)
    assert np.abs(scores - fallback).max() > 1e-3


def test_the_canary_is_nobodys_history(bundle: Bundle, bundle_dataset: Dataset) -> None:
    history = bundle.canary().history
    assert len(history) == bundle.manifest.history
    windows = np.lib.stride_tricks.sliding_window_view(bundle_dataset.events, 4)
    drawn = {tuple(history[i : i + 4]) for i in range(len(history) - 3)}
    assert not drawn & {tuple(row) for row in windows.tolist()}


def test_shortest_numbers_give_the_same_bits_back() -> None:
    values = np.random.default_rng(0).normal(size=1000).astype(np.float32)
    back = np.array(json.loads(json.dumps(shortest(values))), np.float32)
    assert back.tobytes() == values.tobytes()


def test_items_by_index(bundle: Bundle, bundle_dataset: Dataset) -> None:
    items, table = bundle.items(), pl.read_parquet(bundle_dataset.root / "items.parquet")
    assert items.ids[:2] == items.titles[:2] == ["", ""]
    assert items.ids[2:] == [str(item) for item in table["item"]]
    assert items.titles[2:] == table["title"].to_list()


def test_items_without_titles_and_with_some(make_dataset: MakeDataset) -> None:
    dataset = make_dataset([[2, 3, 4, 5]])
    path = dataset.root / "items.parquet"

    def read(table: pl.DataFrame) -> Items:
        table.write_parquet(path)
        dataset.manifest = msgspec.structs.replace(dataset.manifest, files={path.name: digest_of(path)})
        return read_items(dataset)

    with pytest.raises(DamagedError, match=r"items\.parquet"):
        read_items(dataset)
    table = pl.DataFrame(
        {"item": ["a", "b", "c", "d"], "title": [None] * 4}, schema={"item": pl.String, "title": pl.String}
    )
    assert read(table).titles == []
    assert read(table.with_columns(title=pl.Series(["A", None, None, "Ø"]))).titles == ["", "", "A", "", "", "Ø"]
    with pytest.raises(DamagedError, match="3 rows instead of 4"):
        read(table[:3])


def test_bounds_hold_for_every_history_and_are_near(bundle: Bundle, bundle_dataset: Dataset) -> None:
    """For all prefixes of all devices, test events and all, and yet a value of ten times the size is refused."""
    model, bound_P = untrained_run(bundle_dataset).device_model, torch.from_numpy(bundle.bounds())
    largest_P = torch.zeros(bundle.manifest.size)
    offsets = bundle_dataset.offsets
    for start, end in itertools.pairwise(offsets):
        rows = [bundle_dataset.events[max(start, until - 20) : until] for until in range(start + 1, end + 1)]
        padded = np.array([np.pad(row, (0, 20 - len(row))) for row in rows], dtype=np.int64)
        with torch.inference_mode():
            weights_BP = model.generate(torch.from_numpy(padded)).weights_BP
            assert weights_BP is not None
            largest_P = torch.maximum(largest_P, weights_BP.abs().amax(0))
    assert (largest_P <= bound_P).all()
    assert (largest_P.max() * 10 > bound_P).all()


def test_bounds_are_the_largest_value_and_the_margin(make_dataset: MakeDataset, bundle_dataset: Dataset) -> None:
    dataset = make_dataset([[2, 3, 4, 5, 6]] * 3, vocabulary=7)
    layout = untrained_run(bundle_dataset).model.backbone.head.layout

    class Known(torch.nn.Module):
        def forward(self, history_BL: torch.Tensor) -> tuple[torch.Tensor, ...]:
            """Weights: 0 in the first entry, else minus the length of the history; opinions: half and all of it."""
            theta_BP = -(history_BL != 0).sum(1, keepdim=True).float().expand(-1, layout.size).clone()
            theta_BP[:, : layout.entries[0].size] = 0
            value_B1 = (history_BL != 0).sum(1, keepdim=True).float()
            values_BJK = torch.stack([value_B1 / torch.tensor([2.0, 4]), value_B1 / torch.tensor([8.0, 1])], 1)
            return theta_BP, values_BJK.long(), values_BJK

    found = learn_bounds(Known(), layout, dataset, 4)
    assert found == ([SMALLEST, MARGIN * 4, MARGIN * 4, MARGIN * 4], [MARGIN * 2, MARGIN * 4])


def test_histories_are_of_the_training_part_made_up_or_unknown(make_dataset: MakeDataset) -> None:
    sequences = [list(range(2, 2 + n)) for n in (3, 8, 40)]
    batches = list(histories(make_dataset(sequences), 12))
    training = [batch.tolist() for batch in batches[:-2]]
    # Lengths 1, 3, 10 as far as they go, and the last 12 events; two events of each device do not train.
    assert training[0] == [[2], [2], [2]]
    assert training[1] == [[2, 3, 4], [2, 3, 4]]
    assert training[2] == [list(range(2, 12))]
    assert training[3] == [[2, *[0] * 11], [*range(2, 8), *[0] * 6], list(range(28, 40))]
    assert batches[-2].shape[1] == 12
    assert (batches[-1] == UNKNOWN).all()


def test_quality_is_measured_on_the_validation_part(
    bundle_dataset: Dataset, ready_graphs: None, tmp_path: Path
) -> None:
    run = untrained_run(bundle_dataset)
    found = export_bundle(run, bundle_dataset, tmp_path / "bundle", key=KEY).manifest.metrics
    assert set(found) == {"parity_difference", "validation_ndcg@10", "validation_ndcg@10_fallback"}
    assert 0 <= found["validation_ndcg@10"] <= 1


def test_quality_of_a_pairwise_backbone_is_among_drawn_negatives(bundle_dataset: Dataset) -> None:
    found = measure(untrained_run(bundle_dataset, name="din").model, bundle_dataset, None)
    assert set(found) == {"validation_candidates_ndcg@10", "validation_candidates_ndcg@10_fallback"}


def test_nothing_to_measure_is_no_error(bundle_dataset: Dataset, make_dataset: MakeDataset) -> None:
    dataset = make_dataset([[2, 3, 4], [3, 4, 5]], vocabulary=bundle_dataset.vocabulary, bounds=[(3, 3), (3, 3)])
    assert measure(untrained_run(bundle_dataset).model, dataset, None) == {}


def test_a_bundle_is_replaced_only_when_asked(bundle_dataset: Dataset, ready_graphs: None, tmp_path: Path) -> None:
    run, out = untrained_run(bundle_dataset), tmp_path / "bundle"
    export_bundle(run, bundle_dataset, out, key=KEY, measure=False)
    with pytest.raises(OutputExistsError):
        export_bundle(run, bundle_dataset, out, key=KEY, measure=False)
    export_bundle(run, bundle_dataset, out, key=KEY, measure=False, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle"]
    (out / "notes.txt").write_text("")
    with pytest.raises(OutputExistsError, match=r"holds notes\.txt"):
        export_bundle(run, bundle_dataset, out, key=KEY, measure=False, overwrite=True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(OutputExistsError):
        export_bundle(run, bundle_dataset, tmp_path / "mine", key=KEY, measure=False, overwrite=True)


def test_the_trained_generator_mode_stays(bundle_dataset: Dataset, ready_graphs: None, tmp_path: Path) -> None:
    """An export changes nothing in the run that it is given."""
    run = untrained_run(bundle_dataset)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    export_bundle(run, bundle_dataset, tmp_path / "bundle", key=KEY, measure=False)
    after = run.model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_long_histories_of_real_length(make_dataset: MakeDataset) -> None:
    """More devices than are looked at, in several batches."""
    dataset = make_dataset(wandering_sequences(700, 30, seed=1), vocabulary=30)
    seen = sum(len(batch) for batch in histories(dataset, 20))
    assert seen > 700
    assert all(batch.max() < 30 and batch.min() >= 0 for batch in histories(dataset, 20))


def test_a_very_large_catalogue_is_looked_at_in_few_small_batches(make_dataset: MakeDataset) -> None:
    found = list(histories(make_dataset(wandering_sequences(700, 5, seed=1), vocabulary=2_000_000), 1))
    # 2**26 bytes hold 8 rows of so many scores; of 700 devices 500 are looked at, then 512 made-up histories.
    assert max(map(len, found)) == 8
    assert sum(map(len, found)) == 500 + 512 + 1


def test_it_opens_with_its_key_alone(bundle_folder: Path) -> None:
    assert open_bundle(bundle_folder, trusted=[public(KEY)], contents=True)


def test_what_the_manifest_says_of_both_parts(advised: Bundle) -> None:
    manifest = advised.manifest
    assert manifest.parts == "both"
    assert [(opinion.name, opinion.items) for opinion in manifest.opinions] == [("sequence", 10), ("item-knn", 10)]
    assert manifest.trust == Trust(
        [0, 1, 2, 5, 10, 20, 50, 100],
        [1, 1, 1, 0.75, 0.75, 0.5, 0.5, 0.25],
        [[1.5, 1.5, 1.25, 1, 0.75, 0.5, 0, 0], [0.75, 0.75, 0.625, 0.5, 0.375, 0.25, 0, 0]],
    )


def test_the_canary_has_opinions_within_their_bounds(advised: Bundle) -> None:
    canary, generator = advised.canary(), onnxruntime.InferenceSession(advised.read("generator.onnx"))
    items, values = generator.run(["items", "values"], {"history": np.array([canary.history])})
    for opinion, told, items_K, values_K in zip(advised.manifest.opinions, canary.opinions, items[0], values[0]):
        assert 1 <= len(told.items) == len(told.values) <= 9
        assert max(told.values) <= opinion.bound
        known = dict(zip(items_K.tolist(), values_K.tolist()))
        np.testing.assert_allclose([known[item] for item in told.items], told.values, atol=1e-5)
