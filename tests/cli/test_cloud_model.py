"""Cloud models as a user meets them: trained alone, given to DUET, measured, refused where they are none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duetgen.cli.app import main
from duetgen.cli.settings import Settings
from duetgen.cli.train import in_words
from duetgen.data.store import Dataset
from duetgen.training.cloud_run import RECURRENT_SHARES, SHARES
from duetgen.training.config import InvalidConfigError

SMALL = ("--width", "8", "--window", "4", "--history", "12", "--epochs", "1", "--set", "model.cloud.width=8")


def test_a_run_from_start_to_end(people: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def duet(*words: str | Path) -> tuple[str, str]:
        main([str(word) for word in words])
        return capsys.readouterr()

    data, cloud, run = people.root, tmp_path / "cloud", tmp_path / "duet"
    alone = ("train", data, "--method", "cloud", *SMALL, "--out", cloud)
    out, err = duet(*alone)
    assert "settings: SASRec of width 8 beside a GRU4Rec of width 4 and ease, history of 12 events" in err
    assert "cloud model trained in" in out
    told = json.loads(duet(*alone, "--json")[0])
    assert (told["already_finished"], told["best_epoch"], told["trust"]) == (True, None, None)
    assert told["cloud_model"]["members"] == ["sequence", "ease"]
    gru4rec, ease = (told["cloud_model"]["counts"][name] for name in ("gru4rec", "ease"))
    assert (gru4rec in RECURRENT_SHARES, ease in SHARES) == (True, True)

    with pytest.raises(SystemExit):
        duet("export", cloud, data, "--out", tmp_path / "bundle")
    assert "no device runs it [not-exportable]" in capsys.readouterr().err
    given = ("train", data, *SMALL, "--cloud-model", cloud, "--out", run)
    out, _ = duet(*given)
    figure = f"{told['validation_ndcg@10']:.4f}"
    assert f"cloud model (sequence, ease): validation ndcg@10 {figure} ranking by itself" in out
    assert f"gru4rec counts {gru4rec:.2f} in the sequence model; ease counts {ease:.2f} beside the sequence" in out
    assert "trust: weights count" in out
    again = json.loads(duet(*given, "--json")[0])
    assert again["cloud_model"] == told["cloud_model"]
    assert list(again["trust"]) == ["weights", "sequence", "ease"]
    assert list(again["trust"]["ease"]) == ["0", "1", "2", "5", "10", "20", "50", "100"]

    out, _ = duet("evaluate", cloud, run, data, "--staleness", "0,1", "--bootstrap", "40")
    for words in (
        "ranked on the cloud",
        "the cloud's list 1 event ago",
        f"{cloud} (list)",
        "DUET, weights alone, theta 1 event old",
        "DUET, opinions alone ",
    ):
        assert words in out, words
    found = json.loads(duet("evaluate", cloud, data, "--bootstrap", "0", "--json")[0])
    ranked, listed = (one["evaluations"][0]["conditions"] for one in found["runs"])
    assert [one["name"] for one in ranked] == ["zero"]
    assert listed[0]["name"] == "own"
    # The ten best of the list are the ten best of the ranking.
    assert listed[0]["metrics"]["ndcg@10"]["mean"] == pytest.approx(ranked[0]["metrics"]["ndcg@10"]["mean"])

    duet(*alone, "--seed", "1", "--overwrite")  # Another cloud model in the same place: not the one that the run has.
    assert json.loads(duet(*given, "--json")[0])["cloud_model"] is None


def test_what_two_base_models_have_is_told(people: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", str(people.root), *SMALL, "--cloud-model", "item-knn", "--out", str(tmp_path / "run"), "--quiet"]
    main(words)
    out = capsys.readouterr().out
    main([*words, "--json"])
    told = json.loads(capsys.readouterr().out)
    assert list(told["base_models"]) == ["base", "base-distilled"]
    plain, taught = told["base_models"].values()
    assert told["global_model_validation_ndcg@10"] == max(plain, taught)
    kept = "so that one is kept" if taught > plain else "so it is not kept"
    assert f"has {plain:.4f}; one that learns from the cloud model too {taught:.4f}, {kept}" in out


def test_a_duet_for_a_finished_base_model_has_a_cloud_model_by_default(people: Dataset, tmp_path: Path) -> None:
    base, data = str(tmp_path / "base"), str(people.root)
    main(["train", data, "--method", "base", *SMALL, "--out", base, "--quiet"])
    for kind, found in (((), 'kind = "blend"'), (("--cloud-model", "none"), 'kind = "none"')):
        run = tmp_path / f"duet{len(kind)}"
        main(["train", data, "--global-model", base, *kind, "--out", str(run), "--quiet"])
        assert found in (run / "config.toml").read_text()


@pytest.mark.parametrize("verb", ["train", "compare"])
def test_what_is_neither_a_kind_nor_a_run_is_refused(
    people: Dataset, tmp_path: Path, verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, str(people.root), "--cloud-model", "eas", "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    cause, hint = capsys.readouterr().err.splitlines()
    assert cause == "duet: --cloud-model eas is no kind of cloud model and no run folder [invalid-config]"
    assert hint.startswith("  hint: did you mean ease? choose among none, auto,")
    assert not (tmp_path / "out").exists()


def test_a_comparison_refuses_what_is_no_cloud_model_before_anything_is_trained(
    people: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = str(tmp_path / "base")
    main(["train", str(people.root), "--method", "base", *SMALL, "--out", base, "--quiet"])
    capsys.readouterr()
    for words, code in (
        (("--cloud-model", base), "not-a-run"),
        (("--cloud-model", "none", "--methods", "cloud"), "usage"),
    ):
        with pytest.raises(SystemExit):
            main(["compare", str(people.root), *words, "--out", str(tmp_path / "out")])
        assert capsys.readouterr().err.splitlines()[-2].endswith(f"[{code}]")
    assert not (tmp_path / "out").exists()


def test_trust_in_words() -> None:
    curve = {0: 1.0, 1: 0.75, 2: 0.75, 5: 0.5, 10: 0.0, 20: 0.0, 50: 0.0, 100: 0.0}
    assert in_words("weights", curve) == "weights count 1.00 fresh, 0.50 at 5 events, nothing from 20 events on"
    assert in_words("ease", dict.fromkeys(curve, 0.0)) == "ease counts nothing"
    assert in_words("ease", dict.fromkeys(curve, 2.0)).endswith("2.00 at 20 events, 2.00 at 100 events")


def test_another_kind_leaves_the_graph_of_a_configuration_behind(tmp_path: Path) -> None:
    config = tmp_path / "config.toml"
    config.write_text('[model.cloud]\nkind = "onnx"\ngraph = "own.onnx"\nids = "own.txt"\n')
    kept = Settings(cloud_model="onnx", config=config).build({}).model.cloud
    assert (kept.graph, kept.ids) == ("own.onnx", "own.txt")
    other = Settings(cloud_model="ease", config=config).build({}).model.cloud
    assert (other.kind, other.graph, other.ids) == ("ease", "", "")
    with pytest.raises(InvalidConfigError, match=r"model\.cloud\.graph is of the kind onnx"):
        Settings(set_=["model.cloud.graph=own.onnx"]).build({})
