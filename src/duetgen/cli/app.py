"""The `duet` command itself: collects the verbs and turns every refusal into one line, a hint and an exit code."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Final

from duetgen import __version__
from duetgen.cli import streams
from duetgen.cli.stopping import by_signals, told
from duetgen.errors import DuetError, MissingExtraError, printable

NOT_TAKEN: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Why a disk takes no more."""

EMPTY_OPTION: Final = re.compile(r"--[\w-]+=")
"""An option with a value that is empty."""

SAYS_NONE: Final = "--methods"
"""The option of which an empty value says none."""


def main(arguments: list[str] | None = None) -> None:
    """Run `duet` with `arguments` (the process's own by default) and exit."""
    arguments = sys.argv[1:] if arguments is None else arguments
    streams.open_closed()
    streams.keep_whole()
    # torch's threads wait asleep, not spinning: on a machine that others use too, spinning costs more than it gains.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        # The service drains at a signal.
        with contextlib.nullcontext() if arguments[:1] == ["serve"] else by_signals():
            run(arguments)
    except KeyboardInterrupt as stop:
        # Also while modules are imported, which takes a moment.
        from duetgen.cli import console

        kept = arguments[:1] in (["train"], ["demo"], ["compare"]) and "--vision" not in arguments
        goes_on = kept or arguments[:2] == ["data", "get"]
        hint = "the same command goes on where it stopped" if goes_on else "nothing was written"
        if arguments[:1] == ["device"]:
            hint = "what it keeps, with --state, is whole"
        by, code = told(stop)
        console.refuse("interrupted", f"stopped by {by}", hint, "--json" in arguments)
        sys.exit(code)
    except BrokenPipeError:
        streams.drop_the_rest()
        sys.exit(141)
    except OSError as cause:
        # All other files that cannot be written are refused where they are: these are standard output, and what
        # libraries keep for a while.
        from duetgen.cli import console

        refusal = "output-unwritable"
        if not has_current_folder():
            refusal = "input-missing"
            told_cause, hint = "the folder that this command was started in is gone", "go to one that is there: cd"
        elif not has_temporary_folder():
            told_cause, hint = "there is no folder for temporary files that can be written to", "set TMPDIR to one"
        elif cause.errno in NOT_TAKEN:
            told_cause, hint = f"cannot print the result: {cause.strerror}", "free some space, or print elsewhere"
        else:
            raise
        console.refuse(refusal, told_cause, hint, as_json=False)
        streams.drop_the_rest()
        sys.exit(2)


def has_current_folder() -> bool:
    """Whether the folder that relative paths begin in is still there."""
    try:
        Path.cwd()
    except OSError:
        return False
    return True


def has_temporary_folder() -> bool:
    """Whether the system has a folder for temporary files, with some space."""
    try:
        tempfile.gettempdir()
    except OSError:
        return False
    return True


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
        check_text(arguments)
        app(arguments, exit_on_error=False, print_error=False)
    except cyclopts.CycloptsError as cause:
        command = " ".join(("duet", *(cause.command_chain or ())))
        console.refuse("usage", printable(str(cause)), f"see `{command} --help`", "--json" in arguments)
        sys.exit(2)
    except DuetError as error:
        console.refuse(error.code, error.message, error.hint, "--json" in arguments)
        sys.exit(error.exit_code)


def check_text(arguments: list[str]) -> None:
    """Refuse what is no text: a name of a file may be any bytes, and what holds it is written and printed as UTF-8.

    What is empty is none either: as a path it would be the folder that one is in.

    Raises:
        UsageError: naming the first one.
    """
    from duetgen.cli.prepare import UsageError

    for before, argument in itertools.pairwise(("", *arguments)):
        if not argument or EMPTY_OPTION.fullmatch(argument):
            name = argument.removesuffix("=") or (before if before.startswith("--") else "an argument")
            if name == SAYS_NONE:
                continue
            raise UsageError(
                f"{name} is empty", "leave it out, or give its value; a variable of the shell may not be set"
            )
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(
                f"{argument!a} is no UTF-8", "give text; rename a file whose name is in another encoding"
            ) from None
