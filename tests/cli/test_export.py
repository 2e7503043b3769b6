"""`duet export` and `duet keys` as a user meets them; the graphs are ready, so that each export takes a moment."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
import safetensors.torch
from tests.bundles import untrained_run

from duetgen.cli import main
from duetgen.data.store import Dataset
from duetgen.export import graphs
from duetgen.export.keys import load_key, public_hex
from duetgen.training.run import Run, RunFolder
from duetgen.wire.bundle import open_bundle

DOCS = Path(__file__).parent.parent.parent / "docs/commands"


def save(run: Run, root: Path) -> Path:
    """A run folder as training leaves it."""
    root.mkdir()
    folder = RunFolder(root)
    folder.config.write_bytes(run.config.to_toml())
    weights = safetensors.torch.save(run.model.state_dict())
    folder.weights.write_bytes(weights)
    digest = hashlib.sha256(weights).hexdigest()
    folder.write_environment(msgspec.structs.replace(run.environment, weights_sha256=digest))
    return root


@pytest.fixture
def run_folder(bundle_folder: Path, bundle_dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run of the tiny bundle, and no key but the development one's place."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("DUETGEN_KEY", raising=False)
    monkeypatch.setattr(graphs, "export_device", lambda model: (bundle_folder / "device.onnx").read_bytes())
    monkeypatch.setattr(
        graphs, "export_generator", lambda model, two_step: (bundle_folder / "generator.onnx").read_bytes()
    )
    return save(untrained_run(bundle_dataset), tmp_path / "run")


def refused(capsys: pytest.CaptureFixture[str], code: str, *arguments: object) -> str:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert f"[{code}]\n  hint: " in error
    return error


def test_export_makes_a_bundle_and_says_so(
    run_folder: Path, bundle_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    main(["export", str(run_folder), str(bundle_dataset.root), "--out", str(out)])
    printed = capsys.readouterr()
    bundle = open_bundle(out, contents=True)
    for words in (bundle.manifest.model_id, "validation_ndcg@10", "device.onnx", bundle.signature.public_key):
        assert words in printed.out
    key = tmp_path / "config/duetgen/development-key.pem"
    assert f"made a development key, {key}" in printed.err
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert bundle.signature.public_key == public_hex(load_key(key))
    # The second time there is nothing to say.
    main(["export", str(run_folder), str(bundle_dataset.root), "--out", str(out), "--overwrite", "--no-measure"])
    assert capsys.readouterr().err == ""


def test_export_for_machines(
    run_folder: Path, bundle_dataset: Dataset, bundle_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["keys", "new", "--out", str(tmp_path / "release.pem"), "--json"])
    key: dict[str, Any] = json.loads(capsys.readouterr().out)
    out = tmp_path / "bundle"
    arguments = ["export", str(run_folder), str(bundle_dataset.root), "--out", str(out), "--no-measure", "--json"]
    main([*arguments, "--key", key["key"]])
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert printed.err == ""
    assert found["bundle"] == str(out)
    assert found["public_key"] == key["public_key"]
    assert found["manifest"]["model_id"] == open_bundle(bundle_folder).manifest.model_id
    assert not (tmp_path / "config").exists()
    open_bundle(out, trusted=[key["public_key"]])


def test_export_refusals_leave_nothing(
    run_folder: Path, bundle_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = bundle_dataset.root, tmp_path / "bundle"
    base = save(untrained_run(bundle_dataset, method="base"), tmp_path / "base")
    refused(capsys, "not-exportable", "export", base, data, "--out", out)
    refused(capsys, "not-a-run", "export", data, run_folder, "--out", out)
    refused(capsys, "not-a-dataset", "export", run_folder, run_folder, "--out", out)
    refused(capsys, "invalid-key", "export", run_folder, data, "--out", out, "--key", tmp_path / "none.pem")
    refused(capsys, "usage", "export", run_folder, data, "--out", out, "--embeddings", "int4")
    other = save(untrained_run(bundle_dataset, seed=1), tmp_path / "other")
    refused(capsys, "parity-failed", "export", other, data, "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base", "config", "other", "run"]
    out.mkdir()
    (out / "mine.txt").write_text("")
    refused(capsys, "output-exists", "export", run_folder, data, "--out", out, "--overwrite")


def test_a_key_that_others_may_read_is_said_aloud(
    run_folder: Path, bundle_dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["keys", "new", "--out", str(tmp_path / "key.pem")])
    (tmp_path / "key.pem").chmod(0o644)
    arguments = ["--out", str(tmp_path / "bundle"), "--key", str(tmp_path / "key.pem"), "--no-measure", "--quiet"]
    main(["export", str(run_folder), str(bundle_dataset.root), *arguments])
    assert "others can read the key" in capsys.readouterr().err


def test_keys_are_made_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "key.pem"
    main(["keys", "new", "--out", str(path)])
    made = capsys.readouterr().out
    main(["keys", "show", "--key", str(path)])
    assert capsys.readouterr().out == made
    assert public_hex(load_key(path)) in made
    assert "PRIVATE" not in made
    refused(capsys, "output-exists", "keys", "new", "--out", path)
    refused(capsys, "invalid-key", "keys", "show", "--key", tmp_path / "none.pem")


def test_keys_need_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from duetgen.cli import main; main(['keys', 'new', '--out', sys.argv[1]]); "
        "assert 'torch' not in sys.modules"
    )
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path / "key.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "page"), [(["export"], "export"), (["keys", "new"], "keys"), (["keys", "show"], "keys")]
)
def test_pages_name_every_option(words: list[str], page: str, capsys: pytest.CaptureFixture[str]) -> None:
    main([*words, "--help"])
    shown = capsys.readouterr().out
    options = {word.strip("*[],") for word in shown.split() if word.startswith("--")}
    text = (DOCS / f"{page}.md").read_text()
    assert {"--out", "--json"} & options
    assert [option for option in sorted(options) if option not in text and option != "--help"] == []


def test_nothing_is_written_into_a_bundle(
    run_folder: Path, bundle_folder: Path, bundle_dataset: Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    data = bundle_dataset.root
    for words in (
        ("export", run_folder, data, "--out", bundle_folder / "next"),
        ("recommend", run_folder, data, "--out", bundle_folder / "lists.csv"),
        ("keys", "new", "--out", bundle_folder / "keys/release.pem"),
        ("data", "describe", data, "--out", bundle_folder / "page.html"),
        ("train", data, "--out", bundle_folder / "run"),
    ):
        refused(capsys, "output-exists", *words)
    open_bundle(bundle_folder)
