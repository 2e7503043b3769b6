"""A dataset written as text is the same when it is read."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import write_dataset

from duetgen.data.errors import BadSettingError
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources import detect, read
from duetgen.data.sources.duet_text.writing import TextConfig, write_text
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.data.store import Dataset
from duetgen.errors import OutputExistsError


def made(root: Path, sequences: list[list[int]]) -> Dataset:
    """A dataset of these items, the last of each device its test; of each item there are enough others to draw."""
    rows = [f"u{user},i{item}" for user, items in enumerate(sequences) for item in items]
    rows += [f"other,i{item}" for item in range(100, 140)]
    (root / "log.csv").write_text("user,item\n" + "\n".join(rows) + "\n")
    prepare(root / "log.csv", root / "d", PrepareConfig(split="leave-one-out"))
    return Dataset(root / "d")


def numbers(dataset: Dataset, device: int) -> list[int]:
    """The events of a device as they are written."""
    events = dataset.events[dataset.offsets[device] : dataset.offsets[device + 1]].tolist()
    return [dataset.vocabulary - 1 if item == 1 else item - 1 for item in events]


def sequences_of(folder: Path) -> dict[str, list[int]]:
    events = read(folder, "duet-text").events
    users = events.group_by("user", maintain_order=True).agg("item").iter_rows()
    return {user: list(map(int, items)) for user, items in users}


def test_rows_by_hand(tmp_path: Path) -> None:
    dataset = made(tmp_path, [[7, 8, 9, 10]])
    config = TextConfig(window=2, negatives=1, test_negatives=2)
    rows = write_text(dataset, tmp_path / "out", config)
    device = dataset.table("devices")["user"].to_list().index("u0")
    a, b, c, d = map(str, numbers(dataset, device))
    assert d == str(dataset.vocabulary - 1)  # Training does not know the item of the test.
    user = str(device + 1)
    lines = [line.split(";") for line in (tmp_path / "out/train.txt").read_text().splitlines()]
    train = sorted(line for line in lines if line[0] == user)
    assert [row[1:] for row in train if row[4] == "1"] == sorted(
        [[b, "0,0", f"{a},0", "1"], [c, f"{a},0", f"{a},{b}", "1"]]
    )
    for row in train:
        if row[4] == "0":
            met = {f"{a},0": {a, b}, f"{a},{b}": {a, b, c}}[row[3]]
            assert row[1] not in met
    lines = [line.split(";") for line in (tmp_path / "out/test.txt").read_text().splitlines()]
    test = [line for line in lines if line[0] == user]
    assert test[0][1:] == [d, f"{a},{b}", f"{b},{c}", "1"]
    assert [row[2:] for row in test[1:]] == [[f"{a},{b}", f"{b},{c}", "0"]] * 2
    # Of u0 two positions train and one tests, of the other device 38 and one.
    assert rows == (2 + 38) * 2 + (1 + 1) * 3
    assert (tmp_path / "out/items.csv").read_text().startswith("item,id,title\n1,i")


def test_a_dataset_comes_back(tmp_path: Path) -> None:
    prepare(None, tmp_path / "d", PrepareConfig(source="synthetic", synthetic=SyntheticConfig(people=20, items=200)))
    dataset = Dataset(tmp_path / "d")
    write_text(dataset, tmp_path / "out")
    assert detect(tmp_path / "out") == "duet-text"
    found = sequences_of(tmp_path / "out")
    for device in range(dataset.devices):
        assert found[str(device + 1)] == numbers(dataset, device)
    manifest = prepare(tmp_path / "out", tmp_path / "again")
    assert manifest.counts.events == dataset.manifest.counts.events
    assert manifest.counts.test_events == dataset.manifest.counts.test_events
    with pytest.raises(OutputExistsError):
        write_text(dataset, tmp_path / "out")


@settings(max_examples=15, deadline=None)
@given(sequences=st.lists(st.lists(st.integers(1, 9), min_size=3, max_size=9, unique=True), min_size=1, max_size=4))
def test_any_sequences_without_repeats_come_back(
    sequences: list[list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    root = tmp_path_factory.mktemp("text")
    dataset = made(root, sequences)
    write_text(dataset, root / "out", TextConfig(window=4, negatives=1, test_negatives=1))
    wanted = {str(device + 1): numbers(dataset, device) for device in range(dataset.devices)}
    assert sequences_of(root / "out") == wanted


def test_too_few_items_to_draw_from(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "d", [[2, 3, 4, 5]], vocabulary=6)
    with pytest.raises(BadSettingError, match="too few items"):
        write_text(dataset, tmp_path / "out", TextConfig(window=4))
    assert not (tmp_path / "out").exists()
    with pytest.raises(BadSettingError, match="out of range"):
        write_text(dataset, tmp_path / "out", TextConfig(window=0))
