"""The embedded data: a simulator of people whose interests drift between and within sessions.

What is simulated, and nothing else:

- **Items** belong to topics of unequal size. Within its topic an item has a popularity (a Zipf law) and a place on a
  few style axes (say light to dark, short to long). Items come in short series, whose parts are alike in style.
- **People** have a long-term taste over topics, sparse and tilted towards what is popular, and one preference on the
  style axes that holds in every topic. Both are personal and show only over many events: a session touches one or
  two topics, and a style preference shows through choices that popularity and chance blur.
- **Sessions** of a few to a dozen events, days apart. A session draws one or two topics from the taste of that day.
  Each event goes on with the series of the event before, or is drawn from a topic of the session by popularity and
  style, or, seldom, is anything. The item just seen is never repeated; what a person has met before is drawn rarely.
- **Drift**: between sessions the taste over topics makes a small random step, so old events say less than new ones;
  within a session the person now and then moves on to the session's other topic.
- **Time**: people join over several months; gaps between sessions are exponential, events in a session minutes apart.

What is not simulated: exposure (there is no recommender in the loop), trends of items, seasons, ratings, several people
behind one device. Figures on this data show that the product works; they say nothing about anyone's users.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from duetgen.data.errors import BadSettingError
from duetgen.data.sources.log import Log
from duetgen.data.sources.source import Head, Source
from duetgen.data.spool import Spool

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

EPOCH: Final = 1_704_067_200
"""2024-01-01 00:00:00 UTC."""

DAY: Final = 86_400

TOPICS: Final[dict[str, tuple[str, ...]]] = {
    "sea stories": ("Lighthouse", "Harbour", "Tide", "Schooner", "Island"),
    "mountain tales": ("Summit", "Glacier", "Refuge", "Ridge", "Avalanche"),
    "space voyages": ("Comet", "Orbit", "Nebula", "Airlock", "Colony"),
    "kitchen comedies": ("Bakery", "Soup", "Recipe", "Picnic", "Orchard"),
    "night detectives": ("Alibi", "Witness", "Cipher", "Corridor", "Motive"),
    "garden pieces": ("Greenhouse", "Hedge", "Blossom", "Sundial", "Pond"),
    "desert roads": ("Caravan", "Oasis", "Mirage", "Dune", "Milestone"),
    "city nights": ("Tram", "Rooftop", "Arcade", "Crossing", "Neon"),
    "ghost stories": ("Attic", "Lantern", "Portrait", "Echo", "Stairway"),
    "court dramas": ("Verdict", "Oath", "Chambers", "Clause", "Appeal"),
    "music films": ("Overture", "Violin", "Rehearsal", "Encore", "Ballad"),
    "animal adventures": ("Fox", "Heron", "Otter", "Badger", "Swift"),
    "robot fables": ("Gear", "Circuit", "Servant", "Workshop", "Signal"),
    "family sagas": ("Inheritance", "Reunion", "Letters", "Homestead", "Wedding"),
    "heist capers": ("Vault", "Decoy", "Getaway", "Diamond", "Blueprint"),
    "winter romances": ("Snowfall", "Skates", "Fireplace", "Cabin", "Mittens"),
    "sport underdogs": ("Relay", "Goalkeeper", "Marathon", "Regatta", "Overtime"),
    "history plays": ("Crown", "Scribe", "Siege", "Treaty", "Aqueduct"),
    "train mysteries": ("Platform", "Sleeper", "Timetable", "Tunnel", "Conductor"),
    "river journeys": ("Ferry", "Delta", "Rapids", "Lock", "Meander"),
}
ADJECTIVES: Final = (
    "Amber", "Borrowed", "Crooked", "Distant", "Early", "Faithful", "Gentle", "Hidden", "Idle", "Jade", "Kindly",
    "Last", "Midnight", "Northern", "Open", "Paper", "Quiet", "Restless", "Silver", "Third", "Unlikely", "Velvet",
    "Wandering", "Yellow",
)  # fmt: skip
ORDINALS: Final = ("", " II", " III", " IV")


class SyntheticConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Size and seed of the simulated log.

    Attributes:
        people: number of people.
        items: number of items.
        shortest: fewest events of a person.
        longest: most events of a person.
        seed: of everything random here.
    """

    people: int = 2_000
    items: int = 600
    shortest: int = 40
    longest: int = 120
    seed: int = 0


@dataclass(frozen=True)
class Catalogue:
    """The items: I of them, K topics, S style axes, M most items of a topic.

    Attributes:
        topic_I: topic of each item; the items of a topic and the parts of a series are consecutive.
        appeal_I: log popularity within the topic.
        style_IS: place on the style axes.
        next_I: the next part of the series, or -1.
        member_KM: the items of each topic, padded with -1.
        titles: by item.
    """

    topic_I: Ints
    appeal_I: Floats
    style_IS: Floats
    next_I: Ints
    member_KM: Ints
    titles: list[str]


STYLE_AXES: Final = 4
STYLE_STRENGTH: Final = 0.9
ZIPF: Final = 0.8
TASTE_SPREAD: Final = 1.6
DRIFT: Final = 0.12
CONTINUE_SERIES: Final = 0.25
CHANGE_TOPIC: Final = 0.15
ANYTHING: Final = 0.04
MET_PENALTY: Final = 3.0


def make_catalogue(items: int, rng: np.random.Generator) -> Catalogue:
    """Items of all topics, in series of one to four parts."""
    topics = min(len(TOPICS), max(items // 4, 1))
    share_K = rng.permutation(np.linspace(1.0, 3.0, topics))
    sizes_K = np.maximum(np.floor(items * share_K / share_K.sum()).astype(np.int64), 1)
    sizes_K[: items - sizes_K.sum()] += 1
    topic_I = np.repeat(np.arange(topics), sizes_K)
    series_style, part = np.zeros((items, STYLE_AXES)), np.zeros(items, dtype=np.int64)
    next_I = np.full(items, -1, dtype=np.int64)
    titles: list[str] = []
    names = [(name, nouns) for name, nouns in TOPICS.items()]
    for topic, size in enumerate(sizes_K):
        first = int(sizes_K[:topic].sum())
        name, nouns = names[topic]
        pairs = rng.permutation(len(ADJECTIVES) * len(nouns))
        made = series = 0
        while made < size:
            parts = int(min(rng.integers(1, len(ORDINALS) + 1), size - made))
            style = rng.normal(size=STYLE_AXES)
            adjective, noun = divmod(int(pairs[series % len(pairs)]), len(nouns))
            again = f" {series // len(pairs) + 1}" if series >= len(pairs) else ""
            for number in range(parts):
                item = first + made + number
                series_style[item] = style
                part[item] = number
                next_I[item] = item + 1 if number + 1 < parts else -1
                titles.append(f"{ADJECTIVES[adjective]} {nouns[noun]}{again}{ORDINALS[number]} ({name})")
            made, series = made + parts, series + 1
    style_IS = series_style + 0.3 * rng.normal(size=series_style.shape)
    member_KM = np.full((topics, int(sizes_K.max())), -1, dtype=np.int64)
    appeal_I = np.zeros(items)
    for topic, size in enumerate(sizes_K):
        first = int(sizes_K[:topic].sum())
        member_KM[topic, :size] = np.arange(first, first + size)
        # Later parts of a series are known to fewer people than its first.
        rank = np.argsort(np.argsort(rng.random(size) + 0.5 * part[first : first + size]))
        appeal_I[first : first + size] = -ZIPF * np.log1p(rank)
    return Catalogue(topic_I, appeal_I, style_IS, next_I, member_KM, titles)


def gumbel_choice(logits: Floats, rng: np.random.Generator) -> Ints:
    """One draw a row, with probabilities softmax(logits): int64 [rows]."""
    return np.asarray(np.argmax(logits + rng.gumbel(size=logits.shape), axis=1), dtype=np.int64)


def simulate(config: SyntheticConfig) -> tuple[Catalogue, dict[str, Any]]:
    """Play everyone's events.

    Returns:
        The catalogue, and arrays: `person_E`, `item_E`, `time_E` in order of time over the whole log.
    """
    rng = np.random.Generator(np.random.PCG64(config.seed))
    shop = make_catalogue(config.items, rng)
    people, topics = config.people, len(shop.member_KM)
    everyone = np.arange(people)
    popular_K = 0.7 * rng.normal(size=topics)
    taste_UK = popular_K + TASTE_SPREAD * rng.normal(size=(people, topics))
    style_US = STYLE_STRENGTH * rng.normal(size=(people, STYLE_AXES))
    count_U = rng.integers(config.shortest, config.longest + 1, size=people)
    clock_U = EPOCH + (rng.random(people) * 120 * DAY).astype(np.int64)
    left_U = np.zeros(people, dtype=np.int64)
    pair_U2 = np.zeros((people, 2), dtype=np.int64)
    last_U = np.full(people, -1, dtype=np.int64)
    met_UI = np.zeros((people, config.items), dtype=bool)
    pieces: list[tuple[Ints, Ints, Ints]] = []
    for step in range(config.longest):
        active = everyone[count_U > step]
        # A new session: taste has drifted, days have passed, one or two topics are in mind.
        opening = active[left_U[active] == 0]
        taste_UK[opening] += DRIFT * rng.normal(size=(len(opening), topics))
        if step:
            clock_U[opening] += (DAY * (0.3 + rng.exponential(9.0, size=len(opening)))).astype(np.int64)
        left_U[opening] = rng.integers(5, 13, size=len(opening))
        first = gumbel_choice(taste_UK[opening], rng)
        second = np.where(rng.random(len(opening)) < 0.5, gumbel_choice(taste_UK[opening], rng), first)
        pair_U2[opening] = np.stack([first, second], axis=1)
        last_U[opening] = -1
        moving = active[rng.random(len(active)) < CHANGE_TOPIC]
        pair_U2[moving] = pair_U2[moving][:, ::-1]
        # An item of the topic in mind, by popularity and style, seldom one met before, never the one just seen.
        member_AM = shop.member_KM[pair_U2[active, 0]]
        real_AM = member_AM >= 0
        logits_AM = shop.appeal_I[member_AM] + np.einsum("ams,as->am", shop.style_IS[member_AM], style_US[active])
        logits_AM -= MET_PENALTY * met_UI[active[:, None], member_AM]
        logits_AM[~real_AM | (member_AM == last_U[active][:, None])] = -np.inf
        logits_AM[:, 0] = np.maximum(logits_AM[:, 0], -1e9)
        item = member_AM[np.arange(len(active)), gumbel_choice(logits_AM, rng)]
        anything = rng.random(len(active)) < ANYTHING
        item = np.where(anything, rng.integers(0, config.items, size=len(active)), item)
        sequel = np.where(last_U[active] >= 0, shop.next_I[last_U[active]], -1)
        goes_on = (sequel >= 0) & ~met_UI[active, sequel] & (rng.random(len(active)) < CONTINUE_SERIES)
        item = np.where(goes_on, sequel, item)
        item = np.where(item == last_U[active], (item + 1) % config.items, item)
        clock_U[active] += rng.integers(60, 900, size=len(active))
        met_UI[active, item] = True
        last_U[active] = item
        left_U[active] -= 1
        pieces.append((active, item, clock_U[active]))
    person, item, time = (np.concatenate(part) for part in zip(*pieces))
    order = np.lexsort((person, time))
    return shop, {"person_E": person[order], "item_E": item[order], "time_E": time[order]}


class Synthetic(Source):
    """The simulator as a source: it reads no file."""

    name = "synthetic"
    about = "the embedded simulator, no input"

    def fits(self, head: Head) -> bool:
        """No file is."""
        return False


def read_synthetic(config: SyntheticConfig) -> Log:
    """The simulated log: people `p0001`…, items `i001`….

    Raises:
        BadSettingError: a size is out of its range.
    """
    limits = {"people": (1, 1_000_000), "items": (2, 100_000), "shortest": (1, 10_000), "longest": (1, 10_000)}
    for name, (least, most) in limits.items():
        if not least <= getattr(config, name) <= most:
            raise BadSettingError(f"synthetic {name} is {getattr(config, name)}", f"choose {least} to {most:,}")
    if config.shortest > config.longest or config.people * config.items > 2**31 or config.seed < 0:
        raise BadSettingError("the synthetic log would be empty or too large", "lower people, items or shortest")
    shop, log = simulate(config)
    people_width, items_width = len(str(config.people)), len(str(config.items))
    people = pl.Series([f"p{i:0{people_width}d}" for i in range(1, config.people + 1)])
    items = pl.Series([f"i{i:0{items_width}d}" for i in range(1, config.items + 1)])
    events = pl.DataFrame(
        {"user": people.gather(log["person_E"]), "item": items.gather(log["item_E"]), "timestamp": log["time_E"]}
    )
    return Log("synthetic", Spool.of(events), pl.DataFrame({"item": items, "title": shop.titles}))
