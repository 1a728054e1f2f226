# SPDX-License-Identifier: MIT
"""Entry of the ``lmc-fast`` command: runs it, and ends every failure with one clear line."""

import sys
import traceback
from collections.abc import Sequence

# What the extra lmc_fast[studies] brings; without it there is no command line.
_EXTRA = {"matplotlib", "plotly", "pydantic", "rich", "safetensors", "sklearn", "typer"}
FAILED, MISUSED, INTERRUPTED = 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status.

    Parameters
    ----------
    arguments : sequence of str, optional
        Without the program's name; None takes ``sys.argv``.

    Returns
    -------
    int
        0; 1 after an error; 2 for a command that does not exist or is misspelt; 130 after Ctrl-C.
        An error prints one line, and its traceback as well with ``--debug``.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    try:
        from .studies.commands import app

        status = app(
            [word for word in given if word != "--debug"],
            prog_name="lmc-fast",
            standalone_mode=False,
        )
    except KeyboardInterrupt:
        _say("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a pipe went away, as `| head` does; leave nothing to flush to it.
        sys.stdout = None
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _explain(error)
    return status if isinstance(status, int) else 0


def _explain(error: Exception) -> int:
    """Print what went wrong as one line; returns the exit status."""
    if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in _EXTRA:
        _say(
            f"error: {error.name} is not installed; the command line and the studies need "
            "pip install 'lmc_fast[studies]'"
        )
        return FAILED
    if type(error).__name__ == "Abort":
        _say("aborted")
        return INTERRUPTED
    # Typer's usage errors have these two; their classes are in different places by version.
    message = getattr(error, "format_message", None)
    if message is not None:
        # Where no command was given the help was printed, and there is no message.
        # Typer hands on what pydantic says of a value.
        if text := message().replace("Value error, ", ""):
            _say(f"error: {text} (see lmc-fast --help)")
        return int(getattr(error, "exit_code", MISUSED))
    if isinstance(error, ValueError | TypeError | OSError | ImportError) or _is_study_error(error):
        _say(f"error: {error}")
    else:
        _say(
            f"error: unexpected {type(error).__name__}: {error}; "
            "run again with --debug for the traceback"
        )
    return FAILED


def _is_study_error(error: Exception) -> bool:
    from .studies.errors import StudyError

    return isinstance(error, StudyError)


def _say(text: str) -> None:
    print("lmc-fast: " + " ".join(text.split()), file=sys.stderr)
