"""What all bundles have in common."""

from __future__ import annotations

import hashlib

import pytest

from duetgen.export import folder
from duetgen.export.errors import NotExportableError
from duetgen.wire.bundle import BundleFile


def test_entries_of_files() -> None:
    found = folder.entries_of({"device.onnx": b"abc", "canary.json": b""}, "smaller")
    assert found["device.onnx"] == BundleFile(hashlib.sha256(b"abc").hexdigest(), 3)
    assert found["canary.json"].bytes == 0


def test_a_file_that_nobody_would_read_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "MAX_BUNDLE_FILE_BYTES", 3)
    assert set(folder.entries_of({"device.onnx": b"abc"}, "smaller")) == {"device.onnx"}
    with pytest.raises(NotExportableError, match=r"device\.onnx has 4 bytes, at most 3 are read"):
        folder.entries_of({"device.onnx": b"abcd"}, "smaller")
