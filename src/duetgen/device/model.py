"""The device model: a verified bundle, loaded, that scores candidates with a theta.

Shapes: P weights in theta, L window length (L_d), C candidates, B rows, V item indices.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from duetgen.device.checks import check_keys, check_path
from duetgen.device.items import PADDING, ItemIndex, item_values
from duetgen.device.loaded import Float32, LoadedModel
from duetgen.wire.bundle import DEVICE_FILES, Bundle, open_bundle
from duetgen.wire.errors import InvalidBundleError

Int64 = npt.NDArray[np.int64]
Kind = TypeVar("Kind", bound=LoadedModel)

TOLERANCE: Final = 1e-4
"""How far a runtime's scores may be from those of the export, absolute and relative."""
PIECE: Final = 2**14
"""Candidates that a graph scores at a time, at most: it gathers the embeddings of them all."""
Integer: TypeAlias = type[np.int64] | type[np.int32]
INTEGERS: Final[dict[str, Integer]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}


class Scorer:
    """Arrays of one row that stay bound to the graph, so that a call copies its inputs and nothing else.

    Not thread-safe: `DeviceModel` lends each to one call at a time.
    """

    def __init__(self, model: DeviceModel) -> None:
        self.session = model.session
        self.binding = self.session.io_binding()
        self.integer = model.integer
        self.theta_1P = np.zeros((1, model.size), dtype=np.float32)
        self.window_1L = np.zeros((1, model.window), dtype=self.integer)
        self.candidates_1C: npt.NDArray[Any] = np.zeros((1, 0), dtype=self.integer)
        self.scores_1C = np.zeros((1, 0), dtype=np.float32)
        self.holds: object = None
        self._bind("theta", self.theta_1P)
        self._bind("history", self.window_1L)

    def _bind(self, name: str, array: npt.NDArray[Any]) -> None:
        self.binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)

    def score(self, theta_P: Float32, window_L: Sequence[int] | Int64, candidates_C: Sequence[int] | Int64) -> Float32:
        """Scores [C], a fresh array."""
        count = len(candidates_C)
        if count != self.candidates_1C.shape[1]:
            self.candidates_1C = np.empty((1, count), dtype=self.integer)
            self.scores_1C = np.empty((1, count), dtype=np.float32)
            self._bind("candidates", self.candidates_1C)
            scores = self.scores_1C
            self.binding.bind_output("scores", "cpu", 0, np.float32, scores.shape, scores.ctypes.data)
        if self.holds is not theta_P:
            self.theta_1P[0] = theta_P
            self.holds = theta_P
        self.window_1L[0, len(window_L) :] = PADDING
        self.window_1L[0, : len(window_L)] = window_L
        self.candidates_1C[0] = candidates_C
        self.session.run_with_iobinding(self.binding)
        scores_C: Float32 = self.scores_1C[0].copy()
        return scores_C


class DeviceModel(LoadedModel):
    """A bundle that ranks items, verified and loaded. Thread-safe; many devices may share one.

    Args:
        bundle: an opened bundle, see `load_model`.

    Raises:
        InvalidBundleError: its graph cannot be loaded, has other inputs, or does not reproduce the canary.
    """

    runs_on = "Device"

    def __init__(self, bundle: Bundle) -> None:
        super().__init__(bundle)
        self.window = self.manifest.window
        items = bundle.items()
        self.ids: list[str] = items.ids
        self.titles: list[str] = items.titles
        self.items = ItemIndex(items.ids)
        self.index_of = self.items.of
        self.catalogue_V: Int64 = np.arange(self.vocabulary, dtype=np.int64)
        self.integer = self._check_inputs()
        self._idle: list[Scorer] = []
        self._prove()

    def _check_inputs(self) -> Integer:
        inputs = {entry.name: entry.type for entry in self.session.get_inputs()}
        outputs = [entry.name for entry in self.session.get_outputs()]
        integer = INTEGERS.get(inputs.get("history", ""))
        names = set(inputs) == {"theta", "history", "candidates"} and outputs == ["scores"]
        if not names or integer is None or inputs["candidates"] != inputs["history"]:
            raise InvalidBundleError(
                f"device.onnx maps {inputs} to {outputs}, not theta, history and candidates to scores",
                "export the model again",
            )
        return integer

    def _prove(self) -> None:
        canary = self.bundle.canary()
        history = canary.history[-self.window :]
        cases = ((np.array(canary.theta, dtype=np.float32), canary.scores), (self.zeros_P, canary.fallback_scores))
        for theta_P, expected in cases:
            try:
                fits = len(theta_P) == self.size and len(expected) > 0
                found = self.score(theta_P, history, canary.candidates) if fits else np.zeros(0)
            except Exception as cause:  # a graph that loads may still fail when it runs
                raise InvalidBundleError(f"device.onnx does not run: {cause}", "export the model again") from cause
            if found.shape != (len(expected),) or not np.allclose(found, expected, atol=TOLERANCE, rtol=TOLERANCE):
                raise InvalidBundleError(
                    "device.onnx does not reproduce the scores of canary.json",
                    "export the model again, or update onnxruntime on this device",
                )

    def indices(self, ids: Iterable[object]) -> Int64:
        """Item indices of original ids: int64 [N]; unknown ids are index 1.

        Raises:
            InvalidItemsError: see `items`.
        """
        return self.items.find(item_values(ids))[1]

    @property
    def kind(self) -> object:
        """All that rank items are of one kind."""
        return "ranking"

    def asked(self, kept: Sequence[Any]) -> list[int] | bytes:
        """Item indices of the ids kept."""
        indices: list[int] = self.indices(kept).tolist()
        return indices

    def score(self, theta_P: Float32, window_L: Sequence[int] | Int64, candidates_C: Sequence[int] | Int64) -> Float32:
        """Scores of candidates for one device: float32 [C], a fresh array.

        Args:
            theta_P: float32 [P], not to be changed afterwards; `zeros_P` for the global model.
            window_L: item indices of the last L_d events at most, oldest first.
            candidates_C: item indices.
        """
        if not len(candidates_C):
            return np.zeros(0, dtype=np.float32)
        if len(candidates_C) > PIECE:
            pieces = (candidates_C[first : first + PIECE] for first in range(0, len(candidates_C), PIECE))
            return np.concatenate([self.score(theta_P, window_L, piece_C) for piece_C in pieces])
        idle = self._idle
        try:
            scorer = idle.pop()
        except IndexError:
            scorer = Scorer(self)
        scores_C = scorer.score(theta_P, window_L, candidates_C)
        idle.append(scorer)
        return scores_C

    def score_rows(self, window_BL: npt.NDArray[Any], candidates_BC: npt.NDArray[Any]) -> Float32:
        """Scores of several rows with theta = 0: float32 [B, C]."""
        if not candidates_BC.size:
            # A recurrent graph that is given no row ends the whole process, in some versions of ONNX Runtime.
            return np.zeros(candidates_BC.shape, dtype=np.float32)
        feeds = {
            "theta": np.zeros((len(window_BL), self.size), dtype=np.float32),
            "history": window_BL.astype(self.integer),
            "candidates": candidates_BC.astype(self.integer),
        }
        scores_BC: Float32 = self.session.run(["scores"], feeds)[0]
        return scores_BC

    def forget(self) -> None:
        """Let go of the arrays of earlier calls, which hold a device's window and theta; of calls under way too."""
        self._idle = []

    def score_catalogue(self, theta_P: Float32, window_L: Sequence[int] | Int64) -> Float32:
        """Scores of all item indices: float32 [V]; padding scores -inf."""
        scores_V = self.score(theta_P, window_L, self.catalogue_V)
        scores_V[PADDING] = -np.inf
        return scores_V


@overload
def load_model(root: Path | str, trusted: Collection[str] | None = None) -> LoadedModel: ...


@overload
def load_model(root: Path | str, trusted: Collection[str] | None, kind: type[Kind]) -> Kind: ...


def load_model(
    root: Path | str, trusted: Collection[str] | None = None, kind: type[LoadedModel] | None = None
) -> LoadedModel:
    """Open a bundle folder of either kind, verify everything that a device uses of it, and load it.

    Args:
        root: the bundle; `generator.onnx` may be absent.
        trusted: public keys that may sign, in hexadecimal; None takes any.
        kind: that it must be of, `DeviceModel` or `SampleModel`; None for either.

    Raises:
        InvalidDeviceConfigError: the bundle is no path, or a key is none.
        InvalidBundleError: damaged, incomplete, not to be trusted, not computing here what it should, or of the other
            kind.
    """
    from duetgen.device.sample_model import SampleModel

    check_path("bundle", root)
    if trusted is not None:
        check_keys(trusted)
    bundle = open_for_device(root, trusted)
    found: type[LoadedModel] = DeviceModel if bundle.manifest.ranks else SampleModel
    if kind is not None and found is not kind:
        raise InvalidBundleError(
            f"{root} {'ranks items' if bundle.manifest.ranks else 'ranks no items'}",
            f"run it with duetgen.device.{found.runs_on}",
        )
    return found(bundle)


def open_for_device(root: Path | str, trusted: Collection[str] | None) -> Bundle:
    """A bundle of which all that a device uses is verified.

    Raises:
        InvalidBundleError: damaged, incomplete, or not to be trusted.
    """
    return open_bundle(Path(root), trusted=trusted, files=DEVICE_FILES, contents=True)
