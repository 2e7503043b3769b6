"""One version's generator in ONNX Runtime: histories in, theta out.

Shapes: B devices, L history length (at most L_g), `x` dimensions of a sample, P weights in theta, J opinions, K items
of one, V items.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import onnxruntime
from msgspec import UnsetType

from duetgen.cloud.errors import CanaryError, InvalidHistoryError
from duetgen.cloud.thetas import Float32, Int64, Thetas, open_session, session_options
from duetgen.wire.bias import PAIR_BYTES, ItemBias
from duetgen.wire.bundle import Bundle, Canary, ModelCanary
from duetgen.wire.codec import BYTES
from duetgen.wire.errors import InvalidSampleError
from duetgen.wire.limits import MAX_WAITING_BYTES
from duetgen.wire.messages import Encoding, Parts
from duetgen.wire.samples import SampleSpec

TOLERANCE: Final = 1e-3
"""Largest difference of a canary, in units of the largest value."""
ROWS: Final = (8, 16, 32, 64)
"""Devices a call that are tried for the best throughput on a processor."""
CUDA_ROWS: Final = 1024
LOAD_SECONDS: Final = 20.0
"""How long the graphs of a version may take until they have proved what they compute: some never end."""


History: TypeAlias = npt.NDArray[Any]
"""What the generator reads of one device: item indices [L], or samples [L, x]."""
Pair: TypeAlias = tuple[str, npt.NDArray[Any], npt.NDArray[Any]]
"""A graph, what it computes, and what it should."""


def available_providers() -> list[str]:
    """CUDA where the runtime has it, then the processor."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [name for name in wanted if name in onnxruntime.get_available_providers()]


class Engine:
    """The generator of a bundle.

    Args:
        bundle: opened and trusted; the generator's content is verified here.
        providers: of ONNX Runtime, best first; what is available by default.

    Raises:
        InvalidBundleError: a file is damaged.
        CanaryError: ONNX Runtime does not load the graph, or it does not compute here what was exported.
    """

    def __init__(self, bundle: Bundle, providers: Sequence[str] | None = None) -> None:
        manifest = bundle.manifest
        self.model_id, self.vocabulary, self.length = manifest.model_id, manifest.vocabulary, manifest.history
        self.size, self.codec, self.bias_codec = manifest.size, bundle.codec(), bundle.bias_codec()
        self._names = ["theta"] if manifest.parts == "weights" else ["theta", "items", "values"]
        self._gives_weights = manifest.parts != "bias"
        self._window, self._samples = (
            manifest.window,
            None if isinstance(manifest.model, UnsetType) else manifest.model.history,
        )
        self._canary = bundle.canary() if manifest.ranks else bundle.model_canary()
        generator, device = bundle.read("generator.onnx"), bundle.read("device.onnx")
        options = session_options()
        self._options = onnxruntime.RunOptions()
        self.rows = 1
        """Devices that are best generated in one call."""

        def give_up() -> None:
            options.set_load_cancellation_flag(True)
            self._options.terminate = True

        timer = threading.Timer(LOAD_SECONDS, give_up)
        timer.daemon = True
        timer.start()
        try:
            self._session = open_session(generator, providers or available_providers(), options)
            self._device = open_session(device, ["CPUExecutionProvider"], options)
            self.on_cuda = self._session.get_providers()[0] == "CUDAExecutionProvider"
            self.check()
            most = max(1, MAX_WAITING_BYTES // self._draw(np.random.default_rng(0)).nbytes)
            self.rows = min(CUDA_ROWS, most) if self.on_cuda else self.fastest_rows(most)
        except CanaryError:
            raise
        except Exception as cause:  # ONNX Runtime raises many kinds, none with a common base of its own
            raise CanaryError(
                f"ONNX Runtime does not load the graphs of {self.model_id[:12]}: {cause!s:.1000}",
                "export the model again",
            ) from cause
        finally:
            timer.cancel()
        # A run that the timer has met after all would otherwise end every later one.
        self._options = onnxruntime.RunOptions()

    def history(self, items: list[int] | bytes) -> History:
        """The part of a history that counts, at most [L_g]; of samples [L_g, x].

        Raises:
            InvalidHistoryError: it holds an index that the version does not have, or is of another kind.
        """
        if self._samples is not None:
            return self._read(self._samples, items)
        if isinstance(items, bytes):
            raise InvalidHistoryError("the history is bytes, where this version reads items", "send item indices")
        recent = items[-self.length :]
        # Built-in functions are faster here than numpy's, which cost more to call than to run.
        if not recent or max(recent) >= self.vocabulary or min(recent) < 1:
            raise InvalidHistoryError(
                f"the history holds an item index out of 1 to {self.vocabulary - 1}",
                "send the indices of items.json of this model_id; 1 stands for items that it does not have",
            )
        return np.array(recent, dtype=np.int64)

    def _read(self, samples: SampleSpec, history: list[int] | bytes) -> History:
        try:
            return samples.read(history, self.length, self.vocabulary)
        except InvalidSampleError as cause:
            raise InvalidHistoryError(cause.message, cause.hint) from cause

    def histories(self, many: Sequence[list[int] | bytes]) -> list[History]:
        """`history` of many devices at once.

        Raises:
            InvalidHistoryError: one of them holds an index that the version does not have, or is of another kind.
        """
        if self._samples is not None or any(isinstance(items, bytes) for items in many):
            return [self.history(items) for items in many]
        recent = [np.array(items[-self.length :], dtype=np.int64) for items in many]
        together = np.concatenate(recent)
        if together.max() >= self.vocabulary or together.min() < 1 or not all(map(len, recent)):
            for items in many:
                self.history(items)
        return recent

    def thetas(self, histories: Sequence[History]) -> Thetas:
        """Theta of one history or more, at best of `rows`, in one call: the parts that the version gives."""
        found = dict(zip(self._names, self._run(histories)))
        if not self._gives_weights:
            del found["theta"]
        return Thetas(found, self.codec, self.bias_codec)

    def answer_bytes(self, dtype: Encoding, parts: Parts) -> int:
        """The most bytes of theta in an answer."""
        weights = self.size * BYTES[dtype] if self._gives_weights and parts != "bias" else 0
        return weights + (0 if parts == "weights" else sum(PAIR_BYTES * most + 4 for most in self.bias_codec.most))

    def _run(self, histories: Sequence[History]) -> list[npt.NDArray[Any]]:
        if len(histories) == 1:
            history_BL = histories[0][None]
        else:
            first = histories[0]
            history_BL = np.zeros((len(histories), max(map(len, histories)), *first.shape[1:]), dtype=first.dtype)
            for row, history_L in enumerate(histories):
                history_BL[row, : len(history_L)] = history_L
        found: list[npt.NDArray[Any]] = self._session.run(self._names, {"history": history_BL}, self._options)
        return found

    def check(self) -> None:
        """Prove that both graphs compute here what was exported; safe in any thread.

        Raises:
            CanaryError: they do not.
        """
        canary = self._canary
        if isinstance(canary, ModelCanary):
            theta_P, pairs = self._run_model(canary)
        else:
            theta_P, pairs = self._run_items(canary)
        for what, given, wanted in pairs:
            if given.shape != wanted.shape or not self._close(given, wanted):
                raise CanaryError(
                    f"the {what} graph of {self.model_id[:12]} does not compute here what was exported",
                    "use the version of ONNX Runtime that exported it, or export the model again",
                )
        if theta_P.shape != (self.size,):
            raise CanaryError(f"theta of {self.model_id[:12]} has not the size of its layout", "export the model again")

    def _run_model(self, canary: ModelCanary) -> tuple[Float32, list[Pair]]:
        try:
            (theta_P,) = self._run([self.history(canary.history)])[0]
            inputs = {name: array.values() for name, array in canary.inputs.items()}
            output = self._device.run(None, {"theta": theta_P[None], **inputs}, self._options)[0]
            fallback = self._device.run(None, {"theta": np.zeros_like(theta_P)[None], **inputs}, self._options)[0]
            wanted = np.array(canary.theta, dtype=np.float32)
            return theta_P, [
                ("generator", theta_P, wanted),
                ("device", output, canary.output.values()),
                ("device", fallback, canary.fallback.values()),
            ]
        except Exception as cause:
            raise self._broken(cause) from cause

    def _broken(self, cause: Exception) -> CanaryError:
        return CanaryError(
            f"the canary of {self.model_id[:12]} does not run: {cause!s:.1000}", "export the model again"
        )

    def _run_items(self, canary: Canary) -> tuple[Float32, list[Pair]]:
        try:
            (theta_P,), *opinions = self._run([self.history(canary.history)])
            inputs = {
                "theta": theta_P[None],
                "history": np.array([canary.history[-self._window :]], dtype=np.int64),
                "candidates": np.array([canary.candidates], dtype=np.int64),
            }
            scores_C = self._device.run(None, inputs, self._options)[0][0]
            inputs["theta"] = np.zeros_like(theta_P)[None]
            fallback_C = self._device.run(None, inputs, self._options)[0][0]
            biases = map(ItemBias.of, *(part_BJK[0] for part_BJK in opinions)) if opinions else ()
            pairs = [
                ("generator", self._dense(bias.items, bias.values), self._dense(wanted.items, wanted.values))
                for bias, wanted in zip(biases, canary.opinions, strict=True)
            ]
        except Exception as cause:
            raise self._broken(cause) from cause
        return theta_P, [
            ("generator", theta_P, np.array(canary.theta, dtype=np.float32)),
            *pairs,
            ("device", scores_C, np.array(canary.scores, dtype=np.float32)),
            ("device", fallback_C, np.array(canary.fallback_scores, dtype=np.float32)),
        ]

    def _dense(self, items_K: Sequence[int] | Int64, values_K: Sequence[float] | Float32) -> Float32:
        """An opinion over the catalogue: what ties for its last place has no value, and may differ."""
        values_V = np.zeros(self.vocabulary, dtype=np.float32)
        values_V[items_K] = values_K
        return values_V

    @staticmethod
    def _close(found: Float32, wanted: Float32) -> bool:
        scale = max(float(np.abs(wanted).max(initial=0)), 1e-3)
        return bool(np.isfinite(found).all() and np.abs(found - wanted).max(initial=0) <= TOLERANCE * scale)

    def fastest_rows(self, most: int) -> int:
        """The number of devices a call, of `ROWS` and not above `most`, that takes least time a device: caches set it,
        so it is measured."""
        rng, best, fastest = np.random.default_rng(0), 1, float("inf")
        for rows in (rows for rows in ROWS if rows <= most):
            histories = [self._draw(rng) for _ in range(rows)]
            self._run(histories)
            times = []
            for _ in range(3):
                # Time of this thread alone: others may want the core while a version is loaded.
                begun = time.thread_time()
                self._run(histories)
                times.append((time.thread_time() - begun) / rows)
            if min(times) < 0.95 * fastest:
                best, fastest = rows, min(times)
        return best

    def _draw(self, rng: np.random.Generator) -> History:
        if self._samples is not None:
            return self._samples.draw(rng, self.length, self.vocabulary)
        return rng.integers(1, self.vocabulary, self.length)
