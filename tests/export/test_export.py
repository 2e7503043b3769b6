from pathlib import Path
def test_bundle(bundle_folder: Path) -> None:
    assert (bundle_folder / "manifest.json").is_file()
