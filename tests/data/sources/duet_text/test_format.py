import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.prepare import PrepareConfig, prepare
from duetgen.data.sources import detect, read
from duetgen.data.store import Dataset
from duetgen.errors import DuetError

from ...conftest import Write

WIDTH = 3


def padded(events: list[int]) -> str:
    last = events[-WIDTH:]
    return ",".join(map(str, last + [0] * (WIDTH - len(last))))


def rows_of(user: int, events: list[int], negatives: list[int], label: str = "1") -> list[str]:
    """The rows of one user's events from the second on: a positive and the given negatives each."""
    rows = []
    for i in range(1, len(events)):
        tail = f"{padded(events[: i - 1])};{padded(events[:i])}"
        rows += [f"{user};{events[i]};{tail};{label}"] + [f"{user};{n};{tail};0" for n in negatives]
    return rows


SEQUENCES = {7: [11, 12, 13, 14, 15], 8: [12, 15, 11, 13]}


def files() -> tuple[list[str], list[str]]:
    """Train and test rows of two users: the last event of each is the test."""
    train, test = [], []
    for user, events in SEQUENCES.items():
        rows = rows_of(user, events, [16, 17])
        train += rows[:-3]
        test += rows[-3:]
    return train, test


@pytest.fixture
def folder(write: Write) -> Path:
    train, test = files()
    order = np.random.default_rng(0).permutation(len(train))
    write("d/train.txt", "\n".join(train[i] for i in order) + "\n")
    return write("d/test.txt.gz", "\n".join(test) + "\n").parent


class TestRead:
    def test_folder_or_train_file(self, folder: Path) -> None:
        assert detect(folder) == detect(folder / "train.txt") == "duet-text"
        whole = read(folder)
        assert whole.events.equals(read(folder / "train.txt", "duet-text").events)
        assert [file.name for file in whole.files] == ["train.txt", "test.txt.gz"]

    def test_sequences_that_the_rows_imply(self, folder: Path) -> None:
        events = read(folder).events
        for user, sequence in SEQUENCES.items():
            mine = events.filter(user=str(user))
            assert mine["item"].to_list() == [str(item) for item in sequence]
            assert mine["part"].to_list() == [0] * (len(sequence) - 1) + [2]

    def test_no_test_file(self, write: Write) -> None:
        path = write("train.txt", "\n".join(files()[0]))
        with pytest.raises(errors.TestInputMissingError):
            read(path)
        test = write("other.txt", "\n".join(files()[1]))
        assert len(read(path, "duet-text", test_input=test).events) == 9

    @pytest.mark.parametrize(
        ("row", "what"),
        [
            ("7;11;1,2,3;1,2,3;2", "label"),
            ("7;11;1,2,3;1,2,3;x", "label"),
            ("7;0;1,2,3;1,2,3;1", "target is 0"),
            ("7;11;1,2,3;1,2;1", "window sequence has not 3"),
            ("7;11;1,2;1,2,3;1", "trigger sequence has not 3"),
            ("7;11;1,2,3;0,0,3;1", "padding before an item"),
            ("7;11;1,2,3;1,,3;1", "empty item"),
        ],
    )
    def test_bad_rows_name_their_line(self, write: Write, row: str, what: str) -> None:
        train, test = files()
        path = write("train.txt", "\n".join([*train[:3], row, *train[3:]]))
        write("test.txt", "\n".join(test))
        with pytest.raises(errors.BadTextRowError, match=f"line 4: .*{what}"):
            read(path, "duet-text")

    def test_ids_that_begin_with_zero_are_no_padding(self, write: Write) -> None:
        path = write("train.txt", "u;07;08,0;08,010;1\n")
        write("test.txt", "u;5;08,010;010,07;1\n")
        assert read(path).events["item"].to_list() == ["08", "010", "07", "5"]

    def test_case_without_a_positive(self, write: Write, folder: Path) -> None:
        write("d/test.txt.gz", "\n".join(files()[1]).replace(";1", ";0"))
        with pytest.raises(errors.BadTextRowError):
            read(folder)

    def test_case_with_two_positives(self, write: Write, folder: Path) -> None:
        test = files()[1]
        write("d/test.txt.gz", "\n".join([*test, test[0]]))
        with pytest.raises(errors.BadTextRowError, match="2 rows with label 1"):
            read(folder)

    def test_windows_of_other_width_in_the_test(self, write: Write, folder: Path) -> None:
        write("d/test.txt.gz", "7;1;1,2,3;1,2;1\n")
        with pytest.raises(errors.BadTextRowError, match=r"window sequences have 3 items .* and 2"):
            read(folder)

    def test_no_positive_row_at_all(self, write: Write) -> None:
        path = write("train.txt", "7;11;1,2;1,2;0\n")
        write("test.txt", "7;11;1,2;2,3;1\n7;12;1,2;2,3;0\n")
        assert read(path).events["item"].to_list() == ["2", "3", "11"]

    def test_lost_rows_are_noted(self, write: Write) -> None:
        rows = rows_of(7, list(range(1, 16)), [])
        write("test.txt", rows[-1])
        log = read(write("train.txt", "\n".join(row for row in rows[:-1] if row.split(";")[1] not in "6789")))
        assert {note.name: note.events_in - note.events_out for note in log.notes} == {"rows": 0, "unjoined": 4}

    @given(data=st.data())
    def test_any_bytes_give_a_log_or_a_refusal(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        folder = tmp_path_factory.mktemp("fuzz")
        noise = st.lists(st.sampled_from([*"01;,\n x-", "7;11;", "é"]), max_size=12).map(lambda x: "".join(x).encode())
        for name, rows in zip(("train.txt", "test.txt"), files()):
            raw = "\n".join(rows).encode()
            at, cut = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 40))
            (folder / name).write_bytes(raw[:at] + data.draw(noise) + raw[at + cut :])
        try:
            log = read(folder, "duet-text")
        except DuetError as refusal:
            assert refusal.message  # noqa: PT017
        else:
            assert (log.events["item"] != "0").all()


class TestDataset:
    def open(self, folder: Path, out: Path, **config: object) -> Dataset:
        prepare(folder, out, PrepareConfig(**config))  # type: ignore[arg-type]
        return Dataset(out)

    def items(self, dataset: Dataset) -> dict[int, int]:
        import polars as pl

        table = pl.read_parquet(dataset.root / "items.parquet")
        return {0: 0, 1: 1} | dict(zip(map(int, table["item"].to_list()), table["index"].to_list()))

    def test_split_and_given_candidates(self, folder: Path, tmp_path: Path) -> None:
        dataset = self.open(folder, tmp_path / "out")
        index = self.items(dataset)
        assert dataset.manifest.split.kind == "given"
        by_user = {
            user: [index.get(item, 1) for item in SEQUENCES[user]]
            for user in map(int, read(folder).events["user"].unique(maintain_order=True))
        }
        assert dataset.events.tolist() == list(itertools.chain(*by_user.values()))
        assert (dataset.bounds[:, 1] - dataset.bounds[:, 0]).tolist() == [1, 1]
        # 16 and 17 are drawn only, never met: training does not know them.
        assert dataset.given().tolist() == [[events[-1], 1, 1] for events in by_user.values()]

    def test_rows_at_the_validation_event_are_left_out(self, folder: Path, tmp_path: Path) -> None:
        dataset = self.open(folder, tmp_path / "out")
        rows, index = dataset.rows(), self.items(dataset)
        # User 7: targets 12, 13, (14 validates); user 8: target 15, (11 validates); three rows each.
        assert len(rows.label_R) == 9
        chosen = rows.label_R == 1
        assert sorted(rows.target_R[chosen].tolist()) == sorted(index[i] for i in (12, 13, 15))
        window = [index[11], index[12], 0]
        at = [row for row, w in enumerate(rows.window_RL.tolist()) if w == window]
        assert len(at) == 3
        assert rows.trigger_RL[at].tolist() == [[index[11], 0, 0]] * 3
        step = next(step for step in dataset.manifest.steps if step.name == "training rows")
        assert (step.events_in, step.events_out) == (15, 9)

    def test_dropped_users_leave_rows_and_candidates(self, folder: Path, tmp_path: Path) -> None:
        dataset = self.open(folder, tmp_path / "out", min_user_events=3)
        assert dataset.devices == 1
        assert len(dataset.given()) == 1
        assert set(dataset.rows().device_R.tolist()) == {0}

    def test_other_splits_are_refused(self, folder: Path, tmp_path: Path) -> None:
        with pytest.raises(errors.BadSettingError):
            self.open(folder, tmp_path / "out", split="leave-one-out")
