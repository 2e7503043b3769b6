"""Cells: one method with one backbone and one seed, fitted, measured and kept by workers."""
