"""The group of commands, and the boundary at which errors become a line and a hint.

Of jscope's errors the facts are printed, not the hints, which are Python. Where a command has
an option instead, it raises a `CommandError` that names it.

Exit status: 0; 1 if ``diff`` finds a difference or ``verify`` damage; 2 for errors.
"""

import importlib
import os
import sys
import traceback
import warnings
from collections.abc import Sequence

import click

from .._errors import CheckpointWarning, JscopeError
from ._command import CommandError

_COMMANDS = ("ls", "show", "diff", "convert", "verify", "plan")


class _Commands(click.Group):
    """Imports a command's file when it is called, or listed in the help."""

    def list_commands(self, context: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        if name not in _COMMANDS:
            return None
        module = importlib.import_module(f".{name}", __package__)
        command: click.Command = module.command
        return command


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="jscope-jax", message="%(prog)s %(version)s")
def app() -> None:
    """Look into, compare, convert and verify checkpoints.

    CKPT is a TensorFlow checkpoint (a prefix such as model.ckpt-1000, one of its files, or a
    directory), a directory or a step of js.Saver, an Orbax checkpoint, a .safetensors or an
    .npz file.

    SELECTOR is a glob by components: * within one, ** across, as in 'encoder/**/w'; or re: and
    a regular expression, as in 're:/(w|b)$'. Quote it, so that the shell doesn't expand it.
    """


def run(arguments: Sequence[str]) -> int:
    """Run a command; return its exit status."""
    try:
        with warnings.catch_warnings(), app.make_context("jscope", list(arguments)) as context:
            warnings.showwarning = _warn
            warnings.simplefilter("always", CheckpointWarning)
            status: int = app.invoke(context) or 0
        sys.stdout.flush()
        return status
    except click.exceptions.Exit as error:  # after --help
        return error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "jscope"
        return _fail(error.format_message().rstrip("."), f"{command} --help")
    except CommandError as error:
        return _fail(str(error), error.hint)
    except BrokenPipeError:
        # The reader of the output, such as head, has closed it; Python would report it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except JscopeError as error:
        return _fail(error.facts)
    except (KeyboardInterrupt, click.Abort):
        return _fail("interrupted", status=130)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _fail(f"{where}{error.strerror or error}")
    except Exception as error:
        if os.environ.get("JSCOPE_TRACEBACK"):
            traceback.print_exc()
        return _fail(
            f"{type(error).__name__}: {error}",
            "this is a bug in jscope; JSCOPE_TRACEBACK=1 shows where",
        )


def _warn(message: Warning | str, *where: object, **more: object) -> None:
    """Print a warning of any command of the app ``jscope`` as one line."""
    click.secho("jscope: warning: ", fg="yellow", bold=True, nl=False, err=True)
    click.echo(str(message), err=True)


def _fail(message: str, hint: str = "", status: int = 2) -> int:
    """Print the error of a command with its hint, and return the exit status."""
    click.secho("jscope: error: ", fg="red", bold=True, nl=False, err=True)
    click.echo(message, err=True)
    if hint:
        click.secho("hint: ", bold=True, nl=False, err=True)
        click.echo(hint, err=True)
    return status
