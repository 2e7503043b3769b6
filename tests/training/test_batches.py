import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import MakeDataset

from duetgen.backbones import BackboneConfig
from duetgen.data.store import UNKNOWN, Dataset
from duetgen.recommender import HistoryConfig, ModelConfig
from duetgen.training.batches import LONG_WINDOW, SequenceBatches, chunk_size, cut


def batches_of(dataset: Dataset, **options: object) -> SequenceBatches:
    settings = {"size": 8, "context": 4, "batch_positions": 64, "unknown_share": 0.0, "seed": 0} | options
    return SequenceBatches(dataset, **settings)  # type: ignore[arg-type]


def test_short_sequence_is_one_chunk_and_its_last_event_a_target_only() -> None:
    chunks = cut(np.array([100]), np.array([5]), size=8, context=4)
    assert (chunks.start_Q.tolist(), chunks.first_Q.tolist(), chunks.end_Q.tolist()) == ([100], [100], [104])


def test_long_sequence_is_cut_with_context_by_hand() -> None:
    # 14 events, 13 positions: 0..7 trained; then context 4..7, 8..11 trained; then context 8..11, 12 trained.
    chunks = cut(np.array([0]), np.array([14]), size=8, context=4)
    assert chunks.start_Q.tolist() == [0, 4, 8]
    assert chunks.first_Q.tolist() == [0, 8, 12]
    assert chunks.end_Q.tolist() == [8, 12, 13]


@pytest.mark.parametrize(
    ("name", "method", "window", "history", "expected"),
    [
        ("sasrec", "base", 10, 100, (100, 10)),
        ("sasrec", "base", 100, 100, (200, 100)),
        ("sasrec", "duet", 10, 100, (100, 50)),
        ("sasrec", "duet", 10, 10, (20, 10)),
        ("gru4rec", "base", 10, 100, (100, 10)),
        ("gru4rec", "base", LONG_WINDOW - 1, 10, (2 * LONG_WINDOW - 2, LONG_WINDOW - 1)),
        # Where each later position would run a long window anew, chunks end where the window does.
        ("gru4rec", "base", LONG_WINDOW, 10, (LONG_WINDOW, LONG_WINDOW // 2)),
        ("gru4rec", "base", 200, 200, (200, 100)),
        ("gru4rec", "duet", 100, 100, (200, 100)),
    ],
)
def test_chunks_by_window_and_history(
    name: str, method: str, window: int, history: int, expected: tuple[int, int]
) -> None:
    model = ModelConfig(
        name=name,  # type: ignore[arg-type]
        method=method,  # type: ignore[arg-type]
        backbone=BackboneConfig(window=window),
        history=HistoryConfig(length=history),
    )
    assert chunk_size(model) == expected


@settings(deadline=None)
@given(length=st.integers(2, 2_000), window=st.integers(LONG_WINDOW, 300))
def test_a_recurrent_backbone_with_a_long_window_has_half_of_it_behind_every_position(length: int, window: int) -> None:
    model = ModelConfig(name="gru4rec", method="base", backbone=BackboneConfig(window=window))
    size, context = chunk_size(model)
    chunks = cut(np.array([0]), np.array([length]), size, context)
    assert (chunks.end_Q - chunks.start_Q <= window).all()
    behind_Q = chunks.first_Q - chunks.start_Q
    assert (behind_Q >= np.minimum(chunks.first_Q, window // 2)).all()


@pytest.mark.parametrize("length", [0, 1])
def test_a_sequence_without_a_target_gives_no_chunk(length: int) -> None:
    assert len(cut(np.array([0]), np.array([length]), size=8, context=4)) == 0


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=20),
    size=st.integers(2, 20),
    share=st.floats(0, 0.99),
)
def test_every_position_is_trained_exactly_once(lengths: list[int], size: int, share: float) -> None:
    offsets = np.cumsum([0, *lengths[:-1]])
    chunks = cut(offsets, np.array(lengths), size=size, context=int(share * size))
    trained = [i for first, end in zip(chunks.first_Q, chunks.end_Q) for i in range(first, end)]
    assert sorted(trained) == [o + i for o, n in zip(offsets, lengths) for i in range(max(0, n - 1))]
    assert ((chunks.end_Q - chunks.start_Q) <= size).all()
    assert (chunks.first_Q < chunks.end_Q).all()


def test_an_epoch_holds_each_prefix_and_target_of_the_training_part_once(wandering: Dataset) -> None:
    seen = []
    for batch in batches_of(wandering, size=100).epoch(0):
        for events, targets, trained in zip(batch.events_BT, batch.target_BT, batch.trained_BT):
            seen += [(tuple(events[: t + 1].tolist()), int(targets[t])) for t in trained.nonzero().flatten()]
    expected = []
    for u in range(wandering.devices):
        part = wandering.events[wandering.offsets[u] :][: wandering.bounds[u, 0]].tolist()
        expected += [(tuple(part[:t]), part[t]) for t in range(1, len(part)) if part[t] > UNKNOWN]
    assert sorted(seen) == sorted(expected)


def test_nothing_outside_the_training_part_is_read(make_dataset: MakeDataset) -> None:
    dataset = make_dataset([[2, 3, 4, 98, 99], [5, 6, 7, 8, 97, 96]], vocabulary=100)
    for batch in batches_of(dataset).epoch(0):
        assert batch.events_BT.max() < 90
        assert batch.target_BT.max() < 90


def test_the_unknown_item_is_never_a_trained_target(make_dataset: MakeDataset) -> None:
    dataset = make_dataset([[2, UNKNOWN, 3, 4, 5, 6]])
    (batch,) = batches_of(dataset).epoch(0)
    assert batch.trained_BT.tolist() == [[False, True, True]]
    assert batch.trained == 2


def test_an_epoch_follows_from_seed_and_epoch_alone_and_resumes_anywhere(wandering: Dataset) -> None:
    batches = batches_of(wandering, unknown_share=0.2)
    whole = list(batches.epoch(3))
    for skip in (0, 1, len(whole) - 1, len(whole)):
        rest = list(batches_of(wandering, unknown_share=0.2).epoch(3, skip=skip))
        assert len(rest) == len(whole) - skip
        for one, two in zip(whole[skip:], rest):
            assert one.events_BT.equal(two.events_BT)
    other = list(batches.epoch(4))
    assert len(other) == len(batches.plan(4))
    assert not all(a.events_BT.equal(b.events_BT) for a, b in zip(whole, other))


def test_batches_stay_within_their_size(wandering: Dataset) -> None:
    for batch in batches_of(wandering, batch_positions=50).epoch(0):
        assert batch.events_BT.numel() <= 50


def test_hidden_events_become_unknown_and_targets_stay(wandering: Dataset) -> None:
    plain = list(batches_of(wandering).epoch(0))
    hidden = list(batches_of(wandering, unknown_share=0.5).epoch(0))
    share = np.mean(
        [float((h.events_BT == UNKNOWN)[p.events_BT > UNKNOWN].float().mean()) for h, p in zip(hidden, plain)]
    )
    assert 0.4 < share < 0.6
    assert all(h.target_BT.equal(p.target_BT) for h, p in zip(hidden, plain))
