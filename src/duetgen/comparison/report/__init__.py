"""Report: from cells to results, tables, verdicts, plots and one page."""
