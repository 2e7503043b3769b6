"""The `duet` command: one module a verb. Heavy imports happen inside the verb that needs them."""

from duetgen.cli.app import main

__all__ = ["main"]
