"""Baselines that learn no weights: counts of the training part, one file each, measured like any recommender.

A personal model that loses to these is none.
"""

from duetgen.baselines.counting import Counting
from duetgen.baselines.ease import EASE, CatalogueTooLargeError
from duetgen.baselines.item_knn import ItemKNN
from duetgen.baselines.popularity import Popularity, recent_counts

__all__ = ["EASE", "CatalogueTooLargeError", "Counting", "ItemKNN", "Popularity", "recent_counts"]
