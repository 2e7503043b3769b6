"""The sequence of events that rows of the text format imply.

After the window w and the chosen target t the window is `(w + t)` cut to its last events. So each positive row is an
edge from one window to the next, and a user's sequence is the path through all of its edges; test cases come last.
Two things can go wrong, and neither is guessed at silently:

- A window can occur twice. A path through all edges then still exists (an Euler path); where there is a choice, the row
  first in the file goes first, and a test row last.
- Rows can be missing, and the path breaks into segments. A segment whose first window overlaps the end of another by
  three events or more continues it: that window holds the events of the missing rows. Segments that nothing joins to
  the last one are left out, and their events counted as lost.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

Window = tuple[int, ...]
LEAST_OVERLAP: Final = 3


@dataclass(frozen=True)
class Edge:
    """A positive row: the window before (without padding), the item chosen, and the longest that a window gets."""

    window: Window
    target: int
    width: int

    @property
    def after(self) -> Window:
        """The window once the target has happened."""
        return (*self.window, self.target)[-self.width :]


@dataclass(frozen=True)
class Chain:
    """The sequence of one user.

    Attributes:
        events: items, oldest first; the test events are its end.
        tests: windows of the test cases, in order.
        bridged: missing rows whose events a later window holds.
        lost: events of rows that are joined to nothing.
    """

    events: list[int]
    tests: list[Window]
    bridged: int
    lost: int


@dataclass(frozen=True)
class Segment:
    """Rows that follow one another: their number, the events they tell, and the window they begin with."""

    rows: int
    events: list[int]
    head: Window


Way = tuple[Window, Window]
"""From one window to the next."""

SINK: Final[Window] = (-1,)
"""Where the test leads: no item has this code, so nothing goes on from it."""


def chain(train: list[Edge], test: list[Edge]) -> Chain | None:
    """The sequence through the rows of one user; None if its test rows are not the end of it.

    Args:
        train: positive training rows, in any order.
        test: positive test rows, in any order.
    """
    if not train and not test:
        return Chain([], [], 0, 0)
    order = trails([(edge.window, edge.after) for edge in test])
    if len(order) > 1:
        return None
    tests = [test[number] for trail in order for number in trail]
    ways = [(edge.window, edge.after) for edge in train]
    if tests:
        ways.append((tests[0].window, SINK))
    segments, last = [], None
    for trail in trails(ways):
        tested = trail[-1] == len(train)
        targets = [train[number].target for number in trail[: len(trail) - tested]]
        head = ways[trail[0]][0]
        segments.append(Segment(len(targets), [*head, *targets], head))
        last = segments[-1] if tested else last
    if tests and any(segment.head == tests[-1].after for segment in segments if segment is not last):
        return None
    last = last or max(segments, key=lambda segment: segment.rows)
    others = [segment for segment in segments if segment is not last]
    events, bridged, lost = _join(last, others, (train + test)[0].width)
    return Chain(events + [edge.target for edge in tests], [edge.window for edge in tests], bridged, lost)


def trails(edges: list[Way]) -> list[list[int]]:
    """Paths that together use each edge once, as few as the edges allow within each connected piece.

    Hierholzer's way: walk from each window that is left more often than it is reached until there is no way on, then
    splice in the cycles that remain.
    """
    ways: dict[Window, deque[int]] = {}
    excess: Counter[Window] = Counter()
    for number, (before, after) in enumerate(edges):
        ways.setdefault(before, deque()).append(number)
        excess[before] += 1
        excess[after] -= 1

    def walk(at: Window) -> list[int]:
        trail = []
        while ways.get(at):
            trail.append(ways[at].popleft())
            at = edges[trail[-1]][1]
        return trail

    def splice(trail: list[int]) -> None:
        at = 0
        while at <= len(trail):
            here = edges[trail[at]][0] if at < len(trail) else edges[trail[-1]][1]
            if ways.get(here):
                trail[at:at] = walk(here)
            else:
                at += 1

    # Short windows are beginnings, so they go first.
    starts = sorted((window for window, more in excess.items() if more > 0), key=len)
    found = [walk(start) for start in starts for _ in range(excess[start])]
    for trail in found:
        splice(trail)
    for before, _ in edges:
        # What is left now are cycles that touch no path: each is one of its own.
        while ways[before]:
            found.append(walk(before))
            splice(found[-1])
    return found


def _join(last: Segment, others: list[Segment], width: int) -> tuple[list[int], int, int]:
    """Put segments before `last` while their ends overlap its head.

    Returns:
        The events, how many missing rows were bridged, and how many events nothing joins.
    """
    events, head, bridged = last.events, len(last.head), 0
    rest = list(others)
    while head == width and rest:
        overlaps = [(_overlap(segment.events, events, width), -number) for number, segment in enumerate(rest)]
        overlap, number = max(overlaps)
        if overlap < LEAST_OVERLAP:
            break
        segment = rest.pop(-number)
        events, head = segment.events[:-overlap] + events, len(segment.head)
        bridged += width - overlap
    lost = sum(segment.rows for segment in rest if not _contains(events, segment.events))
    return events, bridged, lost


def _overlap(before: list[int], after: list[int], width: int) -> int:
    """The most events that are both the end of `before` and the beginning of `after`."""
    longest = min(len(before), len(after), width)
    return next((size for size in range(longest, 0, -1) if before[-size:] == after[:size]), 0)


def _contains(whole: list[int], piece: list[int]) -> bool:
    return any(whole[at : at + len(piece)] == piece for at in range(len(whole) - len(piece) + 1))
