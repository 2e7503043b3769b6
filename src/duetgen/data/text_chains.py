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
    """Edges that follow one another, as positions among the edges of the user."""

    edges: list[int]
    events: list[int]
    head: int
    """Length of the first window."""


def chain(train: list[Edge], test: list[Edge]) -> Chain | None:
    """The sequence through the rows of one user; None if its test rows are not the end of it.

    Args:
        train: positive training rows, in any order.
        test: positive test rows, in any order.
    """
    edges, first_test = train + test, len(train)
    segments = [_segment(edges, trail) for trail in trails(edges)]
    tested = [segment for segment in segments if max(segment.edges) >= first_test]
    if len(tested) > 1:
        return None
    last = tested[0] if tested else max(segments, key=lambda segment: len(segment.edges))
    order = [edge >= first_test for edge in last.edges]
    if order != sorted(order):
        return None
    tests = [edges[edge].window for edge in last.edges if edge >= first_test]
    others = [segment for segment in segments if segment is not last]
    events, bridged, lost = _join(last, others, edges[0].width)
    return Chain(events, tests, bridged, lost)


def trails(edges: list[Edge]) -> list[list[int]]:
    """Paths that together use each edge once, as few as the edges allow within each connected piece.

    Hierholzer's way: walk from each window that is left more often than it is reached until there is no way on, then
    splice in the cycles that remain.
    """
    ways: dict[Window, deque[int]] = {}
    excess: Counter[Window] = Counter()
    for number, edge in enumerate(edges):
        ways.setdefault(edge.window, deque()).append(number)
        excess[edge.window] += 1
        excess[edge.after] -= 1

    def walk(at: Window) -> list[int]:
        trail = []
        while ways.get(at):
            trail.append(ways[at].popleft())
            at = edges[trail[-1]].after
        return trail

    def splice(trail: list[int]) -> None:
        at = 0
        while at <= len(trail):
            here = edges[trail[at]].window if at < len(trail) else edges[trail[-1]].after
            if ways.get(here):
                trail[at:at] = walk(here)
            else:
                at += 1

    # Short windows are beginnings, so they go first.
    starts = sorted((window for window, more in excess.items() if more > 0), key=len)
    found = [walk(start) for start in starts for _ in range(excess[start])]
    for trail in found:
        splice(trail)
    for edge in edges:
        # What is left now are cycles that touch no path: each is one of its own.
        while ways[edge.window]:
            found.append(walk(edge.window))
            splice(found[-1])
    return found


def _segment(edges: list[Edge], trail: list[int]) -> Segment:
    first = edges[trail[0]].window
    return Segment(trail, [*first, *(edges[number].target for number in trail)], len(first))


def _join(last: Segment, others: list[Segment], width: int) -> tuple[list[int], int, int]:
    """Put segments before `last` while their ends overlap its head.

    Returns:
        The events, how many missing rows were bridged, and how many events nothing joins.
    """
    events, head, bridged = last.events, last.head, 0
    rest = list(others)
    while head == width and rest:
        overlaps = [(_overlap(segment.events, events, width), -number) for number, segment in enumerate(rest)]
        overlap, number = max(overlaps)
        if overlap < LEAST_OVERLAP:
            break
        segment = rest.pop(-number)
        events, head = segment.events[:-overlap] + events, segment.head
        bridged += width - overlap
    lost = sum(len(segment.edges) for segment in rest if not _contains(events, segment.events))
    return events, bridged, lost


def _overlap(before: list[int], after: list[int], width: int) -> int:
    """The most events that are both the end of `before` and the beginning of `after`."""
    longest = min(len(before), len(after), width)
    return next((size for size in range(longest, 0, -1) if before[-size:] == after[:size]), 0)


def _contains(whole: list[int], piece: list[int]) -> bool:
    return any(whole[at : at + len(piece)] == piece for at in range(len(whole) - len(piece) + 1))
