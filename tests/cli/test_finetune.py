"""Fine-tuning as a user meets it: a run that is trained, measured, listed from, and not exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duetgen.cli.app import main
from duetgen.data.store import Dataset
from duetgen.training.run import RunFolder

SMALL = ("--width", "8", "--window", "4", "--history", "12", "--epochs", "1", "--set", "validation_devices=10")


def test_a_run_from_start_to_end(people: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def duet(*words: str | Path) -> tuple[str, str]:
        main([str(word) for word in words])
        return capsys.readouterr()

    data, run = people.root, tmp_path / "tuned"
    chosen = ("--set", "finetune.scope=whole", "--set", "finetune.steps=2")
    arguments = ("train", data, "--method", "finetune", *SMALL, *chosen, "--out", run)
    out, err = duet(*arguments)
    assert "sasrec finetune trained in" in out
    assert "without fine-tuning, by its global model alone: 0." in out
    assert "sasrec base  epoch   1" in err
    assert "fine-tuning    2 steps at 0.003  validation ndcg@10" in err
    told = json.loads(duet(*arguments, "--json")[0])
    assert (told["already_finished"], told["best_epoch"], told["finetune"]["steps"]) == (True, None, 2)
    assert told["validation_ndcg@10"] == max(one["validation_ndcg10"] for one in told["finetune"]["tried"])
    # The base model that it began with is a run like any other; fine-tuning starts from it with its settings.
    on = ("train", data, "--method", "finetune", "--global-model", run / "base", *chosen, "--out", tmp_path / "on")
    again = json.loads(duet(*on, "--json")[0])
    for figure in ("validation_ndcg@10", "global_model_validation_ndcg@10"):
        assert again[figure] == told[figure]
    out, _ = duet("evaluate", run / "base", run, data, "--staleness", "0,1", "--bootstrap", "40")
    for words in ("fine-tuned ", "fine-tuned 1 event ago", "fine-tuned on another device's events", "random history"):
        assert words in out
    assert "DUET" not in out
    assert "theta" not in out
    duet("recommend", run, data, "--out", tmp_path / "lists.csv", "--k", "3")
    assert (tmp_path / "lists.csv").read_text().startswith("user,rank,item")
    with pytest.raises(SystemExit):
        main(["export", str(run), str(data), "--out", str(tmp_path / "bundle")])
    cause, hint = capsys.readouterr().err.splitlines()
    assert "fine-tuned" in cause
    assert cause.endswith("[not-exportable]")
    assert "--global-model" in hint


def test_a_generator_for_a_base_run_is_trained_for_old_theta_by_default(people: Dataset, tmp_path: Path) -> None:
    base, data = str(tmp_path / "base"), str(people.root)
    main(["train", data, "--method", "base", *SMALL, "--out", base, "--quiet"])
    assert RunFolder(Path(base)).config.read_text().count("staleness = 0") == 1
    main(["train", data, "--global-model", base, "--out", str(tmp_path / "duet"), "--quiet"])
    assert "staleness = 20" in RunFolder(tmp_path / "duet").config.read_text()
