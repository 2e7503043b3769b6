"""What a dataset is like, and what decides whether personalisation can help.

Figures (`description`, made by `measures` and `tastes`), warnings in plain words (`warnings`), and a page (`report`).
"""

from __future__ import annotations

from duetgen.data.describe.description import Description
from duetgen.data.describe.measures import describe

__all__ = ["Description", "describe"]
