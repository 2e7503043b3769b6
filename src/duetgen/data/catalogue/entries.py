"""The table of public data sets: what each is, on what terms, and where its publisher keeps it.

Counts are those that the publisher states, or a paper about it; where none is stated there is none here. No data is
part of duetgen: every address is the publisher's own.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

GROUPLENS: Final = "https://files.grouplens.org/datasets"
TIANCHI: Final = "https://tianchi.aliyun.com/dataset"
SNAP: Final = "https://snap.stanford.edu/data/amazon/productGraph/categoryFiles"
UCSD: Final = "https://mcauleylab.ucsd.edu/public_datasets/data"
STEAM: Final = "https://cseweb.ucsd.edu/~wckang"


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a data set.

    Attributes:
        name: as it is kept.
        url: where the publisher keeps it; None where nobody can download it without signing in.
        size: in bytes, where it is known and does not change.
        md5: as the publisher gives it.
        md5_url: where the publisher gives it, of a file that changes.
    """

    name: str
    url: str | None = None
    size: int | None = None
    md5: str | None = None
    md5_url: str | None = None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A data set.

    Attributes:
        name: by which it is asked for; `_` and `-` are alike.
        title: for people.
        source: the kind of its log, see `data.sources.kinds`.
        page: of the publisher.
        files: the log first, or the archive that holds it.
        log: name of the log inside an archive that holds several.
        store: name of the folder that the files are kept in; None: `name`.
        events: as published.
        users: as published.
        items: as published.
        folders: other names of the folder in which it may have been placed.
        note: what else there is to know.
    """

    name: str
    title: str
    source: str
    page: str
    files: tuple[File, ...]
    log: str | None = None
    store: str | None = None
    events: int | None = None
    users: int | None = None
    items: int | None = None
    folders: tuple[str, ...] = ()
    note: str = ""

    @property
    def family(self) -> str | None:
        """Whose other categories it stands with in a list."""
        return next((family for family in FAMILIES if self.name.startswith(f"{family}-")), None)


def _movielens() -> Iterator[Entry]:
    for size, kind, counts, bytes_, md5 in (
        ("100k", "movielens-100k", (100_000, 943, 1_682), None, "0e33842e24a9c977be4e0107933c0723"),
        ("1m", "movielens-1m", (1_000_209, 6_040, 3_706), None, "c4d9eecfca2ab87c1945afe126590906"),
        ("10m", "movielens-1m", (10_000_054, 69_878, 10_677), 65_566_137, "ce571fd55effeba0271552578f2648bd"),
        ("20m", "movielens-csv", (20_000_263, 138_493, 26_744), 198_702_078, "cd245b17a1ae2cc31bb14903e1204af3"),
        ("25m", "movielens-csv", (25_000_095, 162_541, 59_047), 261_978_986, "6b51fb2759a8657d3bfcbfc42b592ada"),
        ("32m", "movielens-csv", (32_000_204, 200_948, 84_432), 238_950_008, "d472be332d4daa821edc399621853b57"),
        ("latest-small", "movielens-csv", (100_836, 610, 9_724), None, None),
        ("latest", "movielens-csv", (None, None, None), None, None),
    ):
        latest = size.startswith("latest")
        url = f"{GROUPLENS}/movielens/ml-{size}.zip"
        yield Entry(
            name=f"ml-{size}",
            title=f"MovieLens {size if latest else size.upper()}",
            source=kind,
            page=f"https://grouplens.org/datasets/movielens/{'latest' if latest else size}/",
            files=(
                File(name=f"ml-{size}.zip", url=url, size=bytes_, md5=md5, md5_url=f"{url}.md5" if latest else None),
            ),
            events=counts[0],
            users=counts[1],
            items=counts[2],
            note="changes from time to time; the counts are those of 2018-09-26" if counts[0] == 100_836 else "",
        )


AMAZON_2014: Final = {
    "Books": 8_898_041,
    "Electronics": 1_689_188,
    "Movies_and_TV": 1_697_533,
    "CDs_and_Vinyl": 1_097_592,
    "Clothing_Shoes_and_Jewelry": 278_677,
    "Home_and_Kitchen": 551_682,
    "Kindle_Store": 982_619,
    "Sports_and_Outdoors": 296_337,
    "Cell_Phones_and_Accessories": 194_439,
    "Health_and_Personal_Care": 346_355,
    "Toys_and_Games": 167_597,
    "Video_Games": 231_780,
    "Tools_and_Home_Improvement": 134_476,
    "Beauty": 198_502,
    "Apps_for_Android": 752_937,
    "Office_Products": 53_258,
    "Pet_Supplies": 157_836,
    "Automotive": 20_473,
    "Grocery_and_Gourmet_Food": 151_254,
    "Patio_Lawn_and_Garden": 13_272,
    "Baby": 160_792,
    "Digital_Music": 64_706,
    "Musical_Instruments": 10_261,
    "Amazon_Instant_Video": 37_126,
}
"""Categories of the product data of 2014, and the reviews of their 5-core."""

AMAZON_2018: Final = {
    "AMAZON_FASHION": 3_176,
    "All_Beauty": 5_269,
    "Appliances": 2_277,
    "Arts_Crafts_and_Sewing": 494_485,
    "Automotive": 1_711_519,
    "Books": 27_164_983,
    "CDs_and_Vinyl": 1_443_755,
    "Cell_Phones_and_Accessories": 1_128_437,
    "Clothing_Shoes_and_Jewelry": 11_285_464,
    "Digital_Music": 169_781,
    "Electronics": 6_739_590,
    "Gift_Cards": 2_972,
    "Grocery_and_Gourmet_Food": 1_143_860,
    "Home_and_Kitchen": 6_898_955,
    "Industrial_and_Scientific": 77_071,
    "Kindle_Store": 2_222_983,
    "Luxury_Beauty": 34_278,
    "Magazine_Subscriptions": 2_375,
    "Movies_and_TV": 3_410_019,
    "Musical_Instruments": 231_392,
    "Office_Products": 800_357,
    "Patio_Lawn_and_Garden": 798_415,
    "Pet_Supplies": 2_098_325,
    "Prime_Pantry": 137_788,
    "Software": 12_805,
    "Sports_and_Outdoors": 2_839_940,
    "Tools_and_Home_Improvement": 2_070_831,
    "Toys_and_Games": 1_828_971,
    "Video_Games": 497_577,
}
"""Categories of the Review Data of 2018, and the reviews of their 5-core."""

AMAZON_2023: Final = (
    *("All_Beauty", "Amazon_Fashion", "Appliances", "Arts_Crafts_and_Sewing", "Automotive", "Baby_Products"),
    *("Beauty_and_Personal_Care", "Books", "CDs_and_Vinyl", "Cell_Phones_and_Accessories"),
    *("Clothing_Shoes_and_Jewelry", "Digital_Music", "Electronics", "Gift_Cards", "Grocery_and_Gourmet_Food"),
    *("Handmade_Products", "Health_and_Household", "Health_and_Personal_Care", "Home_and_Kitchen"),
    *("Industrial_and_Scientific", "Kindle_Store", "Magazine_Subscriptions", "Movies_and_TV", "Musical_Instruments"),
    *("Office_Products", "Patio_Lawn_and_Garden", "Pet_Supplies", "Software", "Sports_and_Outdoors"),
    *("Subscription_Boxes", "Tools_and_Home_Improvement", "Toys_and_Games", "Video_Games"),
)
"""Categories of the Reviews of 2023."""

FAMILIES: Final = ("amazon-2018", "amazon-2023", "amazon")
"""Names of data sets that come in many categories, the longer before the shorter."""

SHORT: Final = {
    "amazon-cds": "amazon-cds-and-vinyl",
    "amazon-electro": "amazon-electronics",
    "amazon-sports": "amazon-sports-and-outdoors",
    "amazon-toys": "amazon-toys-and-games",
    "amazon-clothing": "amazon-clothing-shoes-and-jewelry",
    "movielens-100k": "ml-100k",
    "movielens-1m": "ml-1m",
    "movielens-10m": "ml-10m",
    "movielens-20m": "ml-20m",
    "movielens-25m": "ml-25m",
    "movielens-32m": "ml-32m",
}
"""Other names of data sets."""


def _amazon() -> Iterator[Entry]:
    def named(category: str) -> str:
        return category.lower().removeprefix("amazon_").replace("_", "-")

    for category, events in AMAZON_2014.items():
        name = f"reviews_{category}_5.json.gz"
        short = category.split("_")[0].lower()
        yield Entry(
            name=f"amazon-{named(category)}",
            title=f"Amazon product data 2014, {category}, 5-core",
            source="amazon-reviews",
            page="https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html",
            files=(File(name=name, url=f"{SNAP}/{name}"),),
            events=events,
            folders=(f"amazon-{named(category)}-5core", f"amazon-{short}-5core"),
        )
    for category, events in AMAZON_2018.items():
        name = f"{category}_5.json.gz"
        yield Entry(
            name=f"amazon-2018-{named(category)}",
            title=f"Amazon Review Data 2018, {category}, 5-core",
            source="amazon-reviews",
            page="https://nijianmo.github.io/amazon/",
            files=(File(name=name, url=f"{UCSD}/amazon_v2/categoryFilesSmall/{name}"),),
            events=events,
        )
    for category in AMAZON_2023:
        name = f"{category}.csv.gz"
        yield Entry(
            name=f"amazon-2023-{named(category)}",
            title=f"Amazon Reviews 2023, {category}, ratings, 5-core",
            source="amazon-2023-csv",
            page="https://amazon-reviews-2023.github.io/",
            files=(File(name=name, url=f"{UCSD}/amazon_2023/benchmark/5core/rating_only/{name}"),),
        )


def _others() -> Iterator[Entry]:
    for kind, counts in (
        ("book", (1_908_081, 46_548, 212_995)),
        ("music", (1_792_501, 39_742, 164_223)),
        ("movie", (11_742_260, 94_890, 81_906)),
    ):
        yield Entry(
            name=f"douban-{kind}",
            title=f"Douban {kind}, with times",
            source="douban",
            page="https://github.com/DeepGraphLearning/RecommenderSystems/blob/master/socialRec/README.md",
            files=(File(name="Douban.tar.gz", url="https://www.dropbox.com/s/u2ejjezjk08lz1o/Douban.tar.gz?dl=1"),),
            log=f"douban_{kind}.tsv",
            store="douban",
            events=counts[0],
            users=counts[1],
            items=counts[2],
        )
    yield Entry(
        name="taobao",
        title="Taobao UserBehavior",
        source="taobao",
        page=f"{TIANCHI}/649",
        files=(File(name="UserBehavior.csv.zip"),),
        events=100_150_807,
        users=987_994,
        items=4_162_024,
        note="the paper's kind of target: --keep-behaviours buy, cart, fav or pv",
    )
    yield Entry(
        name="alipay",
        title="Alipay (Tianchi, IJCAI-16)",
        source="alipay",
        page=f"{TIANCHI}/53",
        files=(File(name="IJCAI16_data.zip"),),
        log="ijcai2016_taobao*",
        note="--item-column sel_ID ranks sellers; --keep-behaviours click,buy chooses actions",
    )
    yield Entry(
        name="lastfm",
        title="Last.fm, HetRec 2011",
        source="lastfm",
        page="https://grouplens.org/datasets/hetrec-2011/",
        files=(File(name="hetrec2011-lastfm-2k.zip", url=f"{GROUPLENS}/hetrec2011/hetrec2011-lastfm-2k.zip"),),
        events=92_834,
        users=1_892,
        items=17_632,
        folders=("lastfm-hetrec",),
        note="no time, and the order of the file is not known: --split random",
    )
    yield Entry(
        name="yelp",
        title="Yelp Open Dataset",
        source="yelp",
        page="https://business.yelp.com/data/resources/open-dataset/",
        files=(File(name="Yelp-JSON.zip", url="https://business.yelp.com/external-assets/files/Yelp-JSON.zip"),),
        events=6_990_280,
    )
    yield Entry(
        name="steam",
        title="Steam reviews",
        source="steam",
        page="https://cseweb.ucsd.edu/~jmcauley/datasets.html#steam_data",
        files=(
            File(name="steam_reviews.json.gz", url=f"{STEAM}/steam_reviews.json.gz"),
            File(name="steam_games.json.gz", url=f"{STEAM}/steam_games.json.gz"),
        ),
        events=7_793_069,
        users=2_567_538,
        items=15_474,
    )


CATALOGUE: Final[dict[str, Entry]] = {entry.name: entry for entry in (*_movielens(), *_amazon(), *_others())}
"""The data sets, by name."""


def canonical(name: str) -> str:
    """A name as the catalogue has it: in lower case, `-` for `_`, the long name for a short one."""
    plain = name.lower().replace("_", "-")
    return SHORT.get(plain, plain)


def entry_of(name: str) -> Entry | None:
    """The data set of a name, or None."""
    return CATALOGUE.get(canonical(name))
