"""What a dataset is like, and what decides whether personalisation can help.

Figures (`measures`, `tastes`), warnings in plain words (`warnings`), and a page (`report`).
"""

from __future__ import annotations

from duetgen.data.describe.measures import Description, describe

__all__ = ["Description", "describe"]
