"""The `duet` command itself: collects the verbs and turns every refusal into one line, a hint and an exit code."""

from __future__ import annotations

import os
import sys

from duetgen import __version__
from duetgen.errors import DuetError, MissingExtraError


def main(arguments: list[str] | None = None) -> None:
    """Run `duet` with `arguments` (the process's own by default) and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    # torch's threads wait asleep, not spinning: on a machine that others use too, spinning costs more than it gains.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        run(arguments)
    except KeyboardInterrupt:
        # Also while modules are imported, which takes a moment.
        from duetgen.cli import console

        hint = (
            "the same command goes on where it stopped"
            if arguments[:1] in (["train"], ["demo"], ["compare"])
            else "nothing was written"
        )
        console.refuse("interrupted", "stopped by the keyboard", hint, "--json" in arguments)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)


def run(arguments: list[str]) -> None:
    """Import the verbs and run one of them; a refusal is printed and ends the process."""
    try:
        import cyclopts
        import rich  # noqa: F401
    except ImportError:
        missing = MissingExtraError(
            "the `duet` command needs packages that are not here", "pip install 'duetgen[train]'"
        )
        print(f"duet: {missing.message} [{missing.code}]\n  hint: {missing.hint}", file=sys.stderr)
        sys.exit(missing.exit_code)

    from duetgen.cli import console
    from duetgen.cli.compare import compare
    from duetgen.cli.data import data
    from duetgen.cli.demo import demo
    from duetgen.cli.device import device
    from duetgen.cli.evaluate import evaluate
    from duetgen.cli.export import export
    from duetgen.cli.keys import keys
    from duetgen.cli.prepare import prepare
    from duetgen.cli.recommend import recommend
    from duetgen.cli.serve import serve
    from duetgen.cli.tokens import tokens
    from duetgen.cli.train import train

    app = cyclopts.App(
        name="duet",
        version=__version__,
        help="One model for every device: the cloud generates each device's own weights from its recent behaviour.",
        help_format="markdown",
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    for verb in (demo, data, prepare, train, evaluate, compare, recommend, export, keys, serve, tokens, device):
        app.command(verb)
    try:
        app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as cause:
        console.refuse(
            "usage", " ".join(str(cause).split()), "see `duet --help` or `duet VERB --help`", "--json" in arguments
        )
        sys.exit(2)
    except DuetError as error:
        console.refuse(error.code, error.message, error.hint, "--json" in arguments)
        sys.exit(error.exit_code)
