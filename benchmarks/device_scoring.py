"""Scoring on a device: candidates a call, loading and swapping a bundle, against the plain `session.run`.

    python benchmarks/device_scoring.py [--bundle FOLDER] [--items 3400] [--width 32] [--repeats 2000]

Without a bundle one is exported from an untrained SASRec of the given size: weights do not change the speed. The plain
way runs the same graph on arrays that are made for each call; `graph` is the device's own call of it, on bound arrays.
`rank()` takes original ids and gives them sorted with their scores: the same ids as in the call before, with what the
device has met shown and hidden, and hidden with a theta of both parts (`biased`); or others each time, met ones hidden:
texts, or, of a catalogue numbered through, lists of whole numbers or numpy arrays of them. `pairs` is what it takes to
look at every pair of the result. The ways take turns, call by call, so that other load meets them alike; medians and
ratios come from one run, on one thread.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from duetgen.device import Device, load_model
from duetgen.device.items import FIRST_ITEM, ItemIndex
from duetgen.device.model import DeviceModel, Float32, Int64
from duetgen.device.theta import Origin, Theta
from duetgen.wire.bias import ItemBias
from duetgen.wire.messages import ParametersAnswer


def untrained(root: Path, items: int, width: int, seed: int = 0, name: str = "sasrec") -> Path:
    """A bundle of a backbone that was never trained."""
    import torch
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from duetgen.backbones.backbone import BackboneConfig
    from duetgen.data.prepare import PrepareConfig, prepare
    from duetgen.data.sources.synthetic import SyntheticConfig
    from duetgen.data.store import Dataset
    from duetgen.export import export_bundle
    from duetgen.recommender import ModelConfig, Recommender
    from duetgen.training.config import TrainConfig
    from duetgen.training.run import Run, describe

    if not (root / "data").is_dir():
        synthetic = SyntheticConfig(people=items // 4, items=items)
        prepare(None, root / "data", PrepareConfig(source="synthetic", synthetic=synthetic))
    dataset = Dataset(root / "data")
    torch.manual_seed(seed)
    config = TrainConfig(model=ModelConfig(name=name, backbone=BackboneConfig(width=width)))
    model = Recommender(dataset.vocabulary, config.model).eval()
    run = Run(root, config, describe(dataset, config, "cpu"), model)
    out = root / f"bundle-{seed}"
    return export_bundle(run, dataset, out, key=Ed25519PrivateKey.generate(), measure=False).root


def compare(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median milliseconds of each way, of the processor's time: what else the machine does is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(repeats + 20):
        for name, work in ways.items():
            begun = time.thread_time()
            work()
            if number >= 20:
                taken[name].append(time.thread_time() - begun)
    return {name: 1000 * statistics.median(values) for name, values in taken.items()}


def score(
    device: Device, numbers: DeviceModel, theta_P: Float32, window: list[int], candidates_C: Int64, repeats: int
) -> dict[str, float]:
    """Median milliseconds of scoring some candidates in each way."""
    model, other, numbered = device.model, Device(device.model), Device(numbers)
    biased = Device(model)
    for one in (other, biased):
        one.observe(*(model.ids[index] for index in window))
    numbered.observe(*window)
    opinion = ItemBias(np.arange(FIRST_ITEM, FIRST_ITEM + 100), np.ones(100, dtype=np.float32))
    answer = ParametersAnswer(model.model_id, 1, 0, 2**52, "float32", b"", b"", b"", b"")
    biased._runtime.store.current = Theta(theta_P, [opinion], answer, Origin(0, 0.0, 0.0, []))
    ids = [model.ids[index] for index in candidates_C]
    turned = itertools.cycle([ids[::-1], ids[1:] + ids[:1]])
    whole = itertools.cycle([candidates_C[::-1].tolist(), np.roll(candidates_C, -1).tolist()])
    arrays = itertools.cycle([candidates_C[::-1], np.roll(candidates_C, -1)])
    ranked = device.rank(ids)

    def plain() -> object:
        feeds = {
            "theta": np.array([theta_P], dtype=np.float32),
            "history": np.array([window], dtype=model.integer),
            "candidates": np.array([candidates_C], dtype=model.integer),
        }
        return model.session.run(None, feeds)[0][0]

    ways = {
        "plain": plain,
        "graph": lambda: model.score(theta_P, window, candidates_C),
        "show": lambda: device.rank(ids, met="show"),
        "hide": lambda: device.rank(ids, met="hide"),
        "biased": lambda: biased.rank(ids, met="hide"),
        "texts": lambda: other.rank(next(turned), met="hide"),
        "numbers": lambda: numbered.rank(next(whole), met="hide"),
        "array": lambda: numbered.rank(next(arrays), met="hide"),
        "pairs": lambda: list(ranked),
    }
    return compare(ways, repeats)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--items", type=int, default=3400)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=2000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        bundle = options.bundle or untrained(root, options.items, options.width)
        model = load_model(bundle)
        print(f"{model.manifest.backbone}, {model.vocabulary - 2:,} items, P = {model.size:,}, L_d = {model.window}")
        rng = np.random.default_rng(0)
        theta_P = rng.uniform(-0.01, 0.01, model.size).astype(np.float32)
        window = rng.integers(FIRST_ITEM, model.vocabulary, model.window).tolist()
        device = Device(model)
        device.observe(*(model.ids[index] for index in window))
        # The same graph: a second one would find the caches cold.
        numbers = copy.copy(model)
        numbers.items = ItemIndex(list(map(str, range(model.vocabulary))))
        print(f"{'':>28}{'rank() of the same ids':^51}{'of others':^51}")
        print(f"{'':>28}{'show':^17}{'hide':^17}{'biased':^17}{'texts':^17}{'numbers':^17}{'array':^17}")
        names = f"{'candidates':>10} {'plain ms':>8} {'graph ms':>8}"
        ways = f"{'ms':>9} {'ratio':>6} " * 6
        print(f"{names}{ways}{'pairs':>7}")
        for count in (100, 1000, 10_000):
            repeats = max(50, options.repeats if count < 10_000 else options.repeats // 5)
            took = score(device, numbers, theta_P, window, rng.integers(FIRST_ITEM, model.vocabulary, count), repeats)
            ranked = "".join(
                f"{took[way]:>9.4f} {took[way] / took['graph']:>6.2f} "
                for way in ("show", "hide", "biased", "texts", "numbers", "array")
            )
            print(f"{count:>10,} {took['plain']:>8.4f} {took['graph']:>8.4f}{ranked}{took['pairs']:>7.4f}")
        loads = compare({"load": lambda: load_model(bundle)}, 20)
        print(f"load a bundle, verified: {loads['load']:.1f} ms")
        if options.bundle is None:
            second = untrained(root, options.items, options.width, seed=1)
            print(f"first rank() of 1,000 after a swap: {swap(bundle, second, root):.4f} ms")


def swap(first: Path, second: Path, root: Path, rounds: int = 15) -> float:
    """Milliseconds of the first `rank` of 1,000 candidates after a loaded version took the place of another, median.

    The change itself is the assignment of one attribute; what a caller could notice is that ranking.
    """
    one, other = load_model(first), load_model(second)
    device = Device(one, state=root / "state")
    ids = one.ids[FIRST_ITEM : FIRST_ITEM + 1000]
    device.rank(ids)
    taken = []
    for number in range(rounds):
        device._runtimes.use(device._runtimes.make((other, one)[number % 2]))
        begun = time.perf_counter()
        device.rank(ids)
        taken.append(time.perf_counter() - begun)
    device.close()
    return 1000 * statistics.median(taken)


if __name__ == "__main__":
    main()
