import bz2
import gzip
import io
import lzma
import re
import tarfile
import zipfile
from base64 import b64decode, b64encode
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from duetgen.data import errors
from duetgen.data.sources import SOURCES, detect, read
from duetgen.data.sources.kinds import KINDS
from duetgen.data.sources.log import Columns, Reading
from duetgen.data.sources.synthetic import SyntheticConfig
from duetgen.errors import DuetError

from ..conftest import Write

ASINS = {"x": "B000000001", "y": "0123456789", "z": "012345678X"}
PEOPLE = {"a": "A1AAAAAAAAAAAA", "b": "A2BBBBBBBBBBBB"}
EVENTS = [("a", "x", 5.0, 30 * 86_400 + 2**30), ("b", "y", 3.0, 20 * 86_400 + 2**30), ("a", "z", 0.5, 2**30)]
"""The same three events in every format, at the same moment of three days."""

FULL = ["user", "item", "rating", "timestamp"]
DAYS = ["2004-02-09", "2004-01-30", "2004-01-10"]
HEADERS = ("userId,", "timestamp,", "UserId", '"user_id"', "user_id", "use_ID", "userID")


def coded(user: str, item: str, rating: float, time: int) -> tuple[str, str, float, int]:
    return PEOPLE[user], ASINS[item], rating, time


def of_lines(row: str, header: str = "", *, amazon: bool = False) -> str:
    rows = [coded(*event) if amazon else event for event in EVENTS]
    return header + "".join(row.format(*event, day) for event, day in zip(rows, DAYS))


def of_objects(fields: str) -> str:
    return "".join("{" + fields % coded(*event) + "}\n" for event in EVENTS)


def with_days(fields: str, *, rated: bool) -> str:
    return "".join(
        "{" + fields % ((u, i, r, day) if rated else (u, i, day)) + "}\n" for (u, i, r, _), day in zip(EVENTS, DAYS)
    )


REVIEW = '"reviewerID": "%s", "asin": "%s", "overall": %s, "unixReviewTime": %d, "x": [1]'
REVIEW_2023 = '"title": "Good", "user_id": "%s", "parent_asin": "%s", "rating": %s, "timestamp": %d000, "asin": "q"'
YELP = '"review_id": "r", "user_id": "%s", "business_id": "%s", "stars": %s, "date": "%s 13:37:04", "text": "\\"t,"'
STEAM = (
    "u'username': u'%s', u'hours': 0.1, u'product_id': u'%s', u'early_access': False, u'date': u'%s', u'text': u\"'\""
)


def review(user: str, item: str, rating: float, time: int) -> str:
    return "{" + REVIEW % (user, item, rating, time) + "}\n"


LAYOUTS = {
    "movielens-100k": ("u.data", of_lines("{0}\t{1}\t{2}\t{3}\n")),
    "movielens-1m": ("ratings.dat", of_lines("{0}::{1}::{2}::{3}\n")),
    "movielens-csv": ("ratings.csv", of_lines("{0},{1},{2},{3}\n", "userId,movieId,rating,timestamp\n")),
    "amazon-2014-csv": ("ratings_X.csv", of_lines("{0},{1},{2},{3}\n", amazon=True)),
    "amazon-2018-csv": ("X.csv", of_lines("{1},{0},{2},{3}\n", amazon=True)),
    "amazon-2023-csv": (
        "X.csv",
        of_lines("{0},{1},{2},{3}000\n", "user_id,parent_asin,rating,timestamp\n", amazon=True),
    ),
    "amazon-reviews": ("reviews_X_5.json", of_objects(REVIEW)),
    "amazon-2023-reviews": ("X.jsonl", of_objects(REVIEW_2023)),
    "douban": ("douban_book.tsv", of_lines("{0}\t{1}\t{2}\t{3}.0\n", "UserId\tItemId\tRating\tTimestamp\n")),
    "douban-reviews": (
        "bookreviews_cleaned.txt",
        of_lines(
            '"{0}"\t"{1}"\t"{2}"\t"label"\t"a, b"\t"{4}"\t"1"\n',
            '"user_id"\t"book_id"\t"rating"\t"labels"\t"comment"\t"time"\t"ID"\n',
        ),
    ),
    "taobao": ("UserBehavior.csv", of_lines("{0},{1},77,pv,{3}\n")),
    "alipay": (
        "ijcai2016_taobao.csv",
        of_lines("{0},9,{1},5,0,{4}\n", "use_ID,sel_ID,ite_ID,cat_ID,act_ID,time\n").replace("-", ""),
    ),
    "lastfm": ("user_artists.dat", of_lines("{0}\t{1}\t{2}\n", "userID\tartistID\tweight\n")),
    "yelp": ("yelp_academic_dataset_review.json", with_days(YELP, rated=True)),
    "steam": ("steam_reviews.json", with_days(STEAM, rated=False)),
    "recbole": (
        "x.inter",
        of_lines("{0}\t{1}\t{2}\t{3}\n", "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"),
    ),
    "table": ("t.csv", of_lines('{3},"{0}",{1},{2},x\n', "timestamp,user_id,itemId,Rating,other\n")),
}
"""Name and content of the three events as each publisher lays them out."""

WITHOUT = {"taobao": "rating", "alipay": "rating", "steam": "rating", "lastfm": "timestamp"}
DATED = ("douban-reviews", "alipay", "yelp", "steam")
"""Formats that have days, and moments at most within them."""

OBJECTS = [kind for kind, (_, content) in LAYOUTS.items() if content.startswith("{")]


def lay_out(kind: str) -> tuple[str, str]:
    """File name and content of the three events in a format."""
    return LAYOUTS[kind]


def second_line(kind: str) -> int:
    """The number of the line of the second event."""
    return 2 + LAYOUTS[kind][1].startswith(HEADERS)


def assert_one_line(refusal: DuetError) -> None:
    assert "\n" not in refusal.message + refusal.hint


FILES = list(LAYOUTS)


@pytest.mark.parametrize("name", KINDS)
def test_the_docs_have_its_line_with_licence_and_citation(name: str) -> None:
    source = KINDS[name]
    docs = (Path(__file__).parents[3] / "docs/concepts/data.md").read_text("utf-8")
    assert f"| `{name}` | {source.about} | {source.licence or 'yours'} | {source.citation} |" in docs


def test_every_source_of_files_is_laid_out_here() -> None:
    assert {*LAYOUTS, "auto", "synthetic", "duet-text", "douban-ratings", "sequences"} == set(SOURCES)


@pytest.mark.parametrize("kind", FILES)
class TestSource:
    """What every source of files does."""

    def test_reads_the_events_in_file_order(self, kind: str, write: Write) -> None:
        log = read(write(*lay_out(kind)), kind)
        back = {v: k for k, v in (ASINS | PEOPLE).items()}
        events = log.events.with_columns(pl.col("user", "item").replace(back))
        if kind in DATED:
            events = events.with_columns(pl.col("timestamp").add(2**30 % 86_400).sub(pl.col("timestamp") % 86_400))
        wanted = [name for name in FULL if name != WITHOUT.get(kind)]
        assert events.columns == wanted
        assert (
            events.rows() == pl.DataFrame(EVENTS, ["user", "item", "rating", "timestamp"], orient="row")[wanted].rows()
        )
        assert log.kind == kind

    def test_is_told_from_the_file(self, kind: str, write: Write) -> None:
        assert detect(write(*lay_out(kind))) == kind

    def test_says_its_terms(self, kind: str) -> None:
        source = KINDS[kind]
        assert source.about
        assert bool(source.licence) == bool(source.citation) == (kind != "table")

    def test_in_a_zip_and_a_tar_as_it_is_published(self, kind: str, tmp_path: Path) -> None:
        name, content = lay_out(kind)
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
            archive.writestr(f"set/{name}", content)
            archive.writestr("set/README", "hello")
        with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
            for inside, data in ((f"set/{name}", content.encode()), ("set/README", b"hello")):
                entry = tarfile.TarInfo(inside)
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
        (tmp_path / name).write_text(content)
        plain = read(tmp_path / name)
        for path in (tmp_path / "set.zip", tmp_path / "set.tar.gz"):
            log = read(path / "set" / name)
            assert (log.kind, log.files) == (kind, [path])
            assert log.events.equals(plain.events)
            assert read(path).events.equals(plain.events)

    @pytest.mark.parametrize("ending", ["gz", "bz2", "xz", "zst"])
    def test_packed_gives_the_same(self, kind: str, ending: str, write: Write) -> None:
        pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress}[ending]
        name, content = lay_out(kind)
        packed = write("packed/x", pack(content.encode()))
        packed = packed.rename(packed.with_name(f"{name}.{ending}"))
        assert read(packed).events.equals(read(write(name, content)).events)
        assert read(packed).kind == kind

    def test_crlf_blank_lines_and_bom_give_the_same(self, kind: str, write: Write) -> None:
        name, content = lay_out(kind)
        windows = "\ufeff\r\n" + content.replace("\n", "\r\n\r\n")
        assert read(write(f"w/{name}", windows), kind).events.equals(read(write(name, content), kind).events)
        assert read(write(f"w/{name}", windows)).kind == kind

    def test_last_line_without_an_end(self, kind: str, write: Write) -> None:
        name, content = lay_out(kind)
        assert len(read(write(name, content.rstrip("\n"))).events) == 3

    def test_bad_rating_names_the_line(self, kind: str, write: Write) -> None:
        if WITHOUT.get(kind) == "rating":
            pytest.skip("it has none")
        name, content = lay_out(kind)
        bad = content.replace("3.0", '"ok"' if kind in OBJECTS else "ok")
        with pytest.raises((errors.BadRatingError, errors.BadJsonLineError), match=f"line {second_line(kind)}\\b"):
            read(write(name, bad), kind)

    def test_bad_timestamp_names_the_line(self, kind: str, write: Write) -> None:
        if WITHOUT.get(kind) == "timestamp":
            pytest.skip("it has none")
        name, content = lay_out(kind)
        moment = DAYS[1].replace("-", "") if kind == "alipay" else DAYS[1] if kind in DATED else str(EVENTS[1][3])
        assert content.count(moment) == 1
        bad = content.replace(moment, '"ok"' if kind in OBJECTS and kind not in DATED else "ok")
        with pytest.raises((errors.BadTimestampError, errors.BadJsonLineError), match=f"line {second_line(kind)}\\b"):
            read(write(name, bad), kind)

    def test_latin1_bytes_name_the_line(self, kind: str, write: Write) -> None:
        name, content = lay_out(kind)
        lines = content.encode().splitlines(keepends=True)
        with pytest.raises(errors.WrongEncodingError, match=f"line {len(lines)} "):
            read(write(name, b"".join(lines[:-1]) + b"\xe9" + lines[-1]), kind)

    def test_another_format_is_refused(self, kind: str, write: Write) -> None:
        other = "movielens-1m" if kind != "movielens-1m" else "movielens-csv"
        refusals = (errors.WrongSourceError, errors.MissingColumnError)
        with pytest.raises(refusals) as caught:
            read(write(*lay_out(other)), kind)
        if kind not in ("table", "recbole"):
            assert other in caught.value.hint

    def test_folder_missing_and_empty(self, kind: str, write: Write, tmp_path: Path) -> None:
        with pytest.raises(errors.InputIsFolderError):
            read(tmp_path, kind)
        with pytest.raises(errors.InputMissingError):
            read(tmp_path / "none", kind)
        with pytest.raises(errors.InputEmptyError):
            read(write("empty", ""), kind)

    @settings(suppress_health_check=[HealthCheck.too_slow])
    @given(data=st.data())
    def test_any_bytes_give_a_log_or_a_refusal(
        self, kind: str, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        name, content = lay_out(kind)
        alphabet = st.sampled_from(
            [*'0a,:;\t"{}[]\n\r\\.-e', "\0", "\ufeff", "é", "\ud7ff", "nan", "::", "B000000001", "'", "u'"]
        )
        noise = st.one_of(st.binary(max_size=40), st.lists(alphabet, max_size=30).map(lambda x: "".join(x).encode()))
        raw = content.encode()
        at, cut = data.draw(st.integers(0, len(raw))), data.draw(st.integers(0, 12))
        mutated = data.draw(st.booleans())
        content_bytes = raw[:at] + data.draw(noise) + raw[at + cut :] if mutated else data.draw(noise)
        path = tmp_path_factory.mktemp("fuzz") / name
        path.write_bytes(content_bytes)
        for source in (kind, "auto"):
            try:
                log = read(path, source)
            except DuetError as refusal:
                assert_one_line(refusal)
            else:
                assert len(log.events) > 0
                assert log.events["user"].null_count() == log.events["item"].null_count() == 0


class TestTitles:
    def test_u_item_is_latin1(self, write: Write) -> None:
        path = write("u.data", "1\t7\t5\t10\n")
        write("u.item", "7|Café (1990)|x|y\n8|Other|x|y\n".encode("latin-1"))
        log = read(path)
        assert log.titles is not None
        assert log.titles.rows() == [("7", "Café (1990)"), ("8", "Other")]
        assert [file.name for file in log.files] == ["u.data", "u.item"]

    def test_movies_dat(self, write: Write) -> None:
        path = write("ratings.dat", "1::7::5::10\n")
        write("movies.dat", "7::Amélie::Comedy\n".encode("latin-1"))
        titles = read(path).titles
        assert titles is not None
        assert titles.rows() == [("7", "Amélie")]

    def test_movies_csv_has_quotes(self, write: Write) -> None:
        path = write("ratings.csv", "userId,movieId,rating,timestamp\n1,7,5,10\n")
        write("movies.csv", 'movieId,title,genres\n7,"Postman, The ""A""",Drama\n')
        titles = read(path).titles
        assert titles is not None
        assert titles.rows() == [("7", 'Postman, The "A"')]

    def test_items_csv_beside_a_table_without_empty_and_repeated_titles(self, write: Write) -> None:
        path = write("log.csv", "user,item\n1,7\n")
        write("items.csv.gz", "item,category,title\n7,c,One\n7,c,Two\n8,c,\n9,c," + "é" * 3000 + "\n")
        titles = read(path).titles
        assert titles is not None
        assert titles["item"].to_list() == ["7", "9"]
        assert titles["title"][0] == "One"
        assert len(titles["title"][1].encode()) <= 2048


class TestSequences:
    def test_a_user_and_its_items(self, write: Write) -> None:
        log = read(write("sequential_data.txt", "7 x1 y2 x1\n\n  8\ty2   z3 \r\n9 q4"))
        assert log.kind == "sequences"
        assert log.events.rows() == [("7", "x1"), ("7", "y2"), ("7", "x1"), ("8", "y2"), ("8", "z3"), ("9", "q4")]

    @pytest.mark.parametrize(
        "content",
        [
            *("1 2 3\n4 5 6\n", "1 2\n1 2 3\n", "1 2 3\n", "the users\nof some words\n", "1, 2 3\n4 5\n"),
            "1 2 3\n4 5 (6) 7\n",
        ],
    )
    def test_what_may_be_something_else_is_not_taken_for_it(self, content: str, write: Write) -> None:
        with pytest.raises(DuetError):
            read(write("log.txt", content))

    def test_it_can_be_named(self, write: Write) -> None:
        path = write("log.txt", "1 2 3\n4 5 6\n")
        with pytest.raises(errors.SourceUndetectedError) as refusal:
            read(path)
        assert "name the source sequences" in refusal.value.hint
        assert read(path, "sequences").events.rows() == [("1", "2"), ("1", "3"), ("4", "5"), ("4", "6")]

    def test_a_user_without_items(self, write: Write) -> None:
        path = write("log.txt", "1 2 3\n4\n5 6\n")
        with pytest.raises(errors.BadIdError, match="line 2 has no item id"):
            read(path)
        log = read(path, reading=Reading(drop_missing=True))
        assert log.events.rows() == [("1", "2"), ("1", "3"), ("5", "6")]
        assert [note.events_in - note.events_out for note in log.notes] == [1]

    def test_it_came_divided(self, write: Write) -> None:
        log = read(write("a.txt", "1 2 3\n4 5\n"), test_input=write("b.txt", "1 4\n4 6 7\n"))
        assert log.events.rows() == [
            ("1", "2", 0),
            ("1", "3", 0),
            ("4", "5", 0),
            ("1", "4", 2),
            ("4", "6", 2),
            ("4", "7", 2),
        ]

    @given(rows=st.lists(st.lists(st.from_regex(r"[\w.:-]{1,6}", fullmatch=True), min_size=2, max_size=6), min_size=1))
    def test_any_ids(self, rows: list[list[str]], tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.mktemp("sequences") / "log.txt"
        path.write_text("".join(" ".join(row) + "\n" for row in rows), "utf-8")
        try:
            events = read(path, "sequences").events.rows()
        except DuetError as refusal:
            assert_one_line(refusal)
        else:
            assert len(events) <= sum(len(row) - 1 for row in rows)


class TestTable:
    def test_named_columns(self, write: Write) -> None:
        path = write("log.csv", "who,what,when,user\na,x,5,q\n")
        log = read(path, "table", columns=Columns(user="who", item="what", timestamp="when"))
        assert log.events.rows() == [("a", "x", 5)]

    def test_columns_named_under_auto_make_it_a_table(self, write: Write) -> None:
        path = write("log.csv", "who,what\na,x\n")
        for source in ("auto", "table"):
            with pytest.raises(errors.MissingColumnError, match="its columns are: who, what") as caught:
                read(path, source)
            assert "--user-column NAME and --item-column NAME" in caught.value.hint
        log = read(path, columns=Columns(user="who", item="what"))
        assert (log.kind, log.events.rows()) == ("table", [("a", "x")])

    @pytest.mark.parametrize("separator", [",", "\t", ";", "|"])
    def test_separators(self, write: Write, separator: str) -> None:
        path = write("log.txt", "user,item\na,x\n".replace(",", separator))
        assert read(path).events.rows() == [("a", "x")]

    @pytest.mark.parametrize(("told", "stands"), [("semicolon", ","), ("comma", "|"), ("tab", ";"), ("bar", " ")])
    @pytest.mark.parametrize("header", [True, False])
    def test_another_separator_than_the_one_named(self, told: str, stands: str, header: bool, write: Write) -> None:
        path = write("log.csv", "user,item,time\na,x,5\n".replace(",", stands))
        columns = Columns() if header else Columns(user="1", item="2")
        with pytest.raises(errors.MissingColumnError) as refusal:
            read(path, "table", columns=columns, reading=Reading(header=header, separator=told))
        name = {",": "comma", "|": "bar", ";": "semicolon", " ": "blanks"}[stands]
        assert refusal.value.hint == f"its first line has another separator: --separator {name}"

    @pytest.mark.parametrize("columns", [Columns(), Columns(user="1"), Columns(user="Who")])
    @pytest.mark.parametrize("source", ["auto", "table"])
    def test_only_the_first_line_of_a_text_may_be_an_event(self, source: str, columns: Columns, write: Write) -> None:
        for name, content, may in (
            ("log.csv", "who,what\na,x\n", True),
            ("log.jsonl", '{"who": "a", "what": "x"}\n', False),
        ):
            with pytest.raises(errors.MissingColumnError) as refusal:
                read(write(name, content), source, columns=columns)
            assert ("--no-header" in refusal.value.hint) == may

    def test_without_time_and_rating(self, write: Write) -> None:
        assert read(write("log.csv", "user,item\na,x\n")).events.columns == ["user", "item"]

    def test_two_usual_names(self, write: Write) -> None:
        with pytest.raises(errors.AmbiguousColumnError, match="score, stars"):
            read(write("log.csv", "user,item,score,stars\na,x,1,2\n"), "table")

    def test_no_such_column(self, write: Write) -> None:
        with pytest.raises(errors.MissingColumnError, match="no column 'nobody'"):
            read(write("log.csv", "user,item\na,x\n"), "table", columns=Columns(user="nobody"))

    def test_one_column_for_two_things(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError):
            read(write("log.csv", "user,item\na,x\n"), "table", columns=Columns(user="item", item="item"))

    def test_header_and_no_event(self, write: Write) -> None:
        with pytest.raises(errors.InputEmptyError, match="no event"):
            read(write("log.csv", "user,item\n"))

    def test_header_beyond_ascii(self, write: Write) -> None:
        path = write("log.csv", "käufer,item\na,x\n")
        assert read(path, "table", columns=Columns(user="käufer")).events.rows() == [("a", "x")]

    def test_parquet(self, tmp_path: Path) -> None:
        path = tmp_path / "log.parquet"
        pl.DataFrame({"item_id": [7, 8], "x": [0, 0], "userId": ["a", "b"], "ts": [5, 6]}).write_parquet(path)
        log = read(path)
        assert log.events.rows() == [("a", "7", 5), ("b", "8", 6)]

    def test_parquet_names_the_row(self, tmp_path: Path) -> None:
        path = tmp_path / "log.parquet"
        pl.DataFrame({"item": [7, None], "user": ["a", "b"]}).write_parquet(path)
        with pytest.raises(errors.BadIdError, match="row 2 has no item id"):
            read(path)

    def test_parquet_whose_text_is_bytes(self, tmp_path: Path) -> None:
        path = tmp_path / "log.parquet"
        times = [b"2020-09-13 12:26:40", b"2020-09-13 12:26:41"]
        columns = {"user": [b"a", "ä".encode()], "item": [b"7", b"8"], "rating": [b"4.5", None], "time": times}
        pl.DataFrame(columns).write_parquet(path)
        moment = 1_600_000_000
        assert read(path).events.rows() == [("a", "7", 4.5, moment), ("ä", "8", None, moment + 1)]
        pl.DataFrame(columns | {"user": [b"a", b"\xe4"]}).write_parquet(path)
        with pytest.raises(errors.WrongEncodingError, match="row 2: the column user holds bytes"):
            read(path)
        pl.DataFrame(columns | {"title": [b"One", b"\xe4"]}).write_parquet(path)
        titles = read(path).titles
        assert titles is not None
        assert titles.rows() == [("7", "One")]

    @pytest.mark.parametrize("zone", ["Turkey", "+05:30", "-08:00", "+00:00"])
    def test_parquet_with_times_of_any_zone(self, zone: str, tmp_path: Path) -> None:
        path = tmp_path / "log.parquet"
        times = pl.Series([1_600_000_000_000_000]).cast(pl.Datetime("us", "Turkey"))
        pl.DataFrame({"user": ["a"], "item": ["7"], "time": times}).write_parquet(path)
        raw = path.read_bytes()
        # The zone stands in a schema in base 64; others write offsets there, which are as long.
        schema = max(re.findall(rb"[A-Za-z0-9+/=]{80,}", raw), key=len)
        path.write_bytes(raw.replace(schema, b64encode(b64decode(schema).replace(b"Turkey", zone.encode()))))
        assert read(path).events.rows() == [("a", "7", 1_600_000_000)]

    def test_parquet_inside_gzip(self, write: Write, tmp_path: Path) -> None:
        pl.DataFrame({"item": [7], "user": ["a"]}).write_parquet(tmp_path / "log.parquet")
        with pytest.raises(errors.NotTextError, match="inside an archive"):
            read(write("log.parquet.gz", (tmp_path / "log.parquet").read_bytes()))

    @given(at=st.integers(0, 800), noise=st.binary(min_size=1, max_size=8), cut=st.booleans())
    def test_damaged_parquet(self, at: int, noise: bytes, cut: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
        path = tmp_path_factory.mktemp("parquet") / "log.parquet"
        pl.DataFrame({"item": [7, 8] * 20, "user": ["a", "b"] * 20}).write_parquet(path)
        raw = path.read_bytes()
        path.write_bytes(raw[:at] if cut else raw[:at] + noise + raw[at + len(noise) :])
        try:
            assert len(read(path, "table").events) > 0
        except DuetError as refusal:
            assert_one_line(refusal)

    def test_second_file_is_the_test(self, write: Write) -> None:
        train, test = write("a.csv", "user,item\na,x\na,y\n"), write("b.csv", "user,item\na,z\n")
        log = read(train, test_input=test)
        assert log.events.rows() == [("a", "x", 0), ("a", "y", 0), ("a", "z", 2)]

    def test_second_file_that_is_the_first(self, write: Write, tmp_path: Path) -> None:
        path = write("log.csv", "user,item\na,x\na,y\n")
        (tmp_path / "other.csv").symlink_to(path)
        with pytest.raises(errors.BadSettingError, match="is both the log and its test events"):
            read(path, test_input=tmp_path / "other.csv")

    def test_second_file_of_other_columns(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError):
            read(write("a.csv", "user,item\na,x\n"), test_input=write("b.csv", "user,item,rating\na,z,1\n"))


class TestAmazon:
    def rows(self, first: list[str], second: list[str]) -> str:
        return "".join(f"{a},{b},5.0,10\n" for a, b in zip(first, second))

    def test_other_layout_named(self, write: Write) -> None:
        for kind, other in (("amazon-2014-csv", "amazon-2018-csv"), ("amazon-2018-csv", "amazon-2014-csv")):
            with pytest.raises(errors.WrongSourceError) as caught:
                read(write(*lay_out(kind)), other)
            assert kind in caught.value.hint

    def test_without_asins_it_is_refused_however_many_values_a_column_has(self, write: Write) -> None:
        many, few = [f"m{i}" for i in range(30)], [f"f{i % 10}" for i in range(30)]
        for columns in ((many, few), (few, many)):
            with pytest.raises(errors.SourceAmbiguousError, match="which of its first two columns is the user"):
                detect(write("a.csv", self.rows(*columns)))

    @pytest.mark.parametrize("kind", ["amazon-2014-csv", "amazon-2018-csv"])
    def test_asins_tell(self, write: Write, kind: str) -> None:
        people, items = [f"A2SUAM1J3GN{i}" for i in range(30)], [f"B00000{1000 + i % 10}" for i in range(30)]
        columns = (people, items) if kind == "amazon-2014-csv" else (items, people)
        assert detect(write("a.csv", self.rows(*columns))) == kind

    def test_when_nothing_tells_it_is_refused(self, write: Write) -> None:
        path = write("a.csv", self.rows(["p", "q"], ["r", "s"]))
        with pytest.raises(errors.SourceAmbiguousError) as caught:
            read(path)
        assert "amazon-2014-csv" in caught.value.hint
        assert read(path, "amazon-2014-csv").events["user"].to_list() == ["p", "q"]
        assert read(path, "amazon-2018-csv").events["user"].to_list() == ["r", "s"]

    def test_review_without_a_field(self, write: Write) -> None:
        content = review("a", "x", 1, 2) + '{"reviewerID": "a", "overall": 1}\n'
        with pytest.raises(errors.BadIdError, match="line 2 has no item id"):
            read(write("r.json", content))


class TestRead:
    def test_unknown_source(self, write: Write) -> None:
        with pytest.raises(errors.UnknownSourceError):
            read(write("a", "x"), "movielens")

    def test_a_log_where_its_kind_should_stand(self, write: Write) -> None:
        one, other = write("1.csv", "user,item\na,x\n"), write("2.csv", "user,item\na,y\n")
        with pytest.raises(errors.UnknownSourceError) as refusal:
            read(other, str(one))
        assert "put those of one log into a folder" in refusal.value.hint

    def test_no_input(self) -> None:
        with pytest.raises(errors.InputMissingError):
            read(None, "table")

    def test_synthetic_reads_no_file(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError):
            read(write("a", "x"), "synthetic")
        assert len(read(None, "synthetic", synthetic=SyntheticConfig(people=3, items=9)).events) > 0

    def test_columns_of_a_fixed_format(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError):
            read(write(*lay_out("movielens-100k")), "movielens-100k", columns=Columns(user="a"))

    def test_no_known_format_shows_how_it_begins(self, write: Write) -> None:
        with pytest.raises(errors.SourceUndetectedError, match="begins 'hello world'"):
            read(write("a", "hello world\n"))


class TestChoices:
    """What some sources let one choose."""

    def test_behaviours_of_taobao(self, write: Write) -> None:
        kinds = ("pv", "buy", "cart", "fav")
        rows = "".join(f"1,{item},9,{kind},{1_511_544_070 + item}\n" for item, kind in enumerate(kinds))
        path = write("UserBehavior.csv", rows)
        assert len(read(path).events) == 4
        log = read(path, reading=Reading(keep_behaviours=("buy", "fav")))
        assert (log.kind, log.events["item"].to_list()) == ("taobao", ["1", "3"])
        assert "behaviours kept: buy, fav" in log.remarks[0]
        with pytest.raises(errors.BadSettingError, match="no event has the behaviour click"):
            read(path, reading=Reading(keep_behaviours=("click",)))

    def test_actions_and_sellers_of_alipay(self, write: Write) -> None:
        header = "use_ID,sel_ID,ite_ID,cat_ID,act_ID,time\n"
        path = write("ijcai2016_taobao.csv", header + "1,7,20,3,0,20151101\n1,8,21,3,1,20151102\n")
        log = read(path, reading=Reading(keep_behaviours=("buy",)))
        assert log.events["item"].to_list() == ["21"]
        sellers = read(path, columns=Columns(item="sel_ID"))
        assert (sellers.kind, sellers.events["item"].to_list()) == ("alipay", ["7", "8"])
        with pytest.raises(errors.MissingColumnError, match="no column 'shop'"):
            read(path, "alipay", columns=Columns(item="shop"))

    def test_behaviours_of_a_log_without_any(self, write: Write) -> None:
        with pytest.raises(errors.BadSettingError, match="no column of behaviours"):
            read(write(*lay_out("movielens-csv")), reading=Reading(keep_behaviours=("buy",)))

    def test_douban_without_time_is_read_when_it_is_named(self, write: Write) -> None:
        path = write("ratings.dat", "1\t1630\t4\n1\t1181\t4\n")
        assert read(path, "douban-ratings").events.rows() == [("1", "1630", 4.0), ("1", "1181", 4.0)]
        with pytest.raises(errors.SourceUndetectedError):
            read(path)

    def test_the_title_of_a_review_of_2023_is_none_of_a_product(self, write: Write) -> None:
        assert read(write(*lay_out("amazon-2023-reviews"))).titles is None


class TestTitlesOfPublishers:
    @pytest.mark.parametrize(
        ("kind", "name", "content"),
        [
            ("movielens-1m", "movies.dat", "x::Amélie::Comedy\ny::B::C\n".encode()),
            ("amazon-reviews", "meta_X.json", b"{'asin': 'B000000001', 'title': \"Am\\xe9lie\"}\n"),
            ("amazon-2014-csv", "meta_X.json", b"{'asin': 'B000000001', 'title': \"Am\\xe9lie\", 'x': {}}\n"),
            ("amazon-2018-csv", "meta_X.json", '{"title": "Amélie", "asin": "B000000001"}\n'.encode()),
            ("amazon-2023-csv", "meta_X.jsonl", '{"title": "Amélie", "parent_asin": "B000000001"}\n'.encode()),
            ("lastfm", "artists.dat", 'id\tname\turl\tpictureURL\nx\tAmélie\thttp\t\ny\t"B\t\t\n'.encode()),
            ("yelp", "yelp_academic_dataset_business.json", '{"business_id": "x", "name": "Amélie"}\n'.encode()),
            ("steam", "steam_games.json", b"{u'app_name': u'Am\\xe9lie', u'title': u'Am\\xe9lie', u'id': u'x'}\n"),
            ("recbole", "x.item", "item_id:token\tmovie_title:token_seq\nx\tAmélie\n".encode()),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    @pytest.mark.parametrize("packed", ["", ".gz", "zip"])
    def test_beside_the_log(self, kind: str, name: str, content: bytes, packed: str, tmp_path: Path) -> None:
        log_name, log = lay_out(kind)
        if packed == "zip":
            with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
                archive.writestr(f"a/{log_name}", log)
                archive.writestr(f"a/{name}", content)
            path = tmp_path / "set.zip/a" / log_name
        else:
            path = tmp_path / log_name
            path.write_text(log)
            (tmp_path / f"{name}{packed}").write_bytes(gzip.compress(content) if packed else content)
        titles = read(path).titles
        assert titles is not None
        assert titles.row(0) == (ASINS["x"] if kind.startswith("amazon") else "x", "Amélie")


def test_yelp_as_it_is_published(tmp_path: Path) -> None:
    """A zip that holds a tar which is a gzip, by its content, whatever its name."""
    name, content = lay_out("yelp")
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for inside, data in ((name, content.encode()), ("yelp_academic_dataset_user.json", b"{}\n")):
            entry = tarfile.TarInfo(inside)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    with zipfile.ZipFile(tmp_path / "Yelp-JSON.zip", "w") as archive:
        archive.writestr("Yelp JSON/yelp_dataset.tar", buffer.getvalue())
        archive.writestr("Yelp JSON/Dataset_User_Agreement.pdf", "terms")
        archive.writestr("__MACOSX/Yelp JSON/._yelp_dataset.tar", "x")
    log = read(tmp_path / "Yelp-JSON.zip")
    assert (log.kind, len(log.events)) == ("yelp", 3)
    assert [file.name for file in log.files] == ["Yelp-JSON.zip"]
