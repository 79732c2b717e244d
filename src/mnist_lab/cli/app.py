"""The ``mnist-lab`` command: its subcommands, and one line for every error.

Command modules import Typer only; what a command needs is imported when it runs, so that
``mnist-lab --help`` answers at once.
"""

from __future__ import annotations

import sys
import traceback

import typer

from mnist_lab import __version__
from mnist_lab.cli import (
    dashboard,
    data,
    maintenance,
    models,
    promotion,
    reports,
    spaces,
    studies,
    sweep,
)
from mnist_lab.cli.options import EXIT_USAGE
from mnist_lab.errors import MnistLabError, masked

EXIT_UNEXPECTED = 70  # EX_SOFTWARE: a defect of mnist-lab
EXIT_INTERRUPTED = 130
INTERRUPTED = "Interrupted. Type the same command again to go on."

app = typer.Typer(
    name="mnist-lab",
    help="Declare a search space once, sweep it with Optuna over Keras models, see every trial in "
    "MLflow, promote the best. Start with: mnist-lab sweep cnn --trials 50",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # it takes "[default: 10]" for markup, and shows "<bool>" after a flag
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for module in (sweep, spaces, studies, reports, promotion, models, data, maintenance, dashboard):
    module.add_commands(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mnist-lab {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(
        False, "--version", callback=_print_version, is_eager=True, help="Print the version."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show the traceback of an error."),
) -> None:
    """Declare the options of every command; ``--debug`` may stand anywhere and is read by ``main``."""


def main() -> None:
    """Run the command in ``sys.argv`` and exit with its documented code."""
    debug = "--debug" in sys.argv[1:]
    words = [word for word in sys.argv[1:] if word != "--debug"]
    try:
        code = app(words, standalone_mode=False)
        if code == EXIT_INTERRUPTED:  # how Typer answers Ctrl-C, without a word
            _say(INTERRUPTED, debug=False)
        sys.exit(code if isinstance(code, int) else 0)
    except MnistLabError as error:
        _say(str(error), debug=debug)
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _say(INTERRUPTED, debug=debug)
        sys.exit(EXIT_INTERRUPTED)
    except Exception as error:
        usage = getattr(error, "format_message", None)
        if usage is not None:  # Typer's own: a wrong option, a missing argument
            context = getattr(error, "ctx", None)
            command = (
                f"mnist-lab {context.info_name}" if context and context.parent else "mnist-lab"
            )
            _say(f"{usage()} See: {command} --help", debug=debug)
            sys.exit(EXIT_USAGE)
        hint = "" if debug else " Add --debug for the traceback."
        _say(f"Unexpected {type(error).__name__}: {error}.{hint}", debug=debug)
        sys.exit(EXIT_UNEXPECTED)


def _say(message: str, *, debug: bool) -> None:
    if debug:
        typer.echo(masked(traceback.format_exc()), err=True)
    typer.echo(f"mnist-lab: {masked(message)}", err=True)
