"""Public data sets by name: what there is (`entries`), where it lies on this machine (`places`), and how it gets there
(`download`).
"""

from __future__ import annotations

from duetgen.data.catalogue.entries import CATALOGUE, Entry, File, canonical, entry_of
from duetgen.data.catalogue.places import cache, find_log, prepared_at, resolve

__all__ = ["CATALOGUE", "Entry", "File", "cache", "canonical", "entry_of", "find_log", "prepared_at", "resolve"]
