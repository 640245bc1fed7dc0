"""Commands of `livedub`, our own and those that other packages bring, by the entry point group `livedub.commands`.

An entry point is a typer.Typer app or a function that typer can turn into a command. It is imported when it is called;
one of another package also when it is listed. A broken one says so then, without harm to the others.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

GROUP = "livedub.commands"
SUMMARIES = {
    "check": "Say what a configuration needs and lacks here: keys, packages, programs, voices, GPUs. Starts nothing.",
    "config": "Check a configuration and show every value in force and where it comes from. Secrets are hidden.",
    "demo": "Start the service, dub a real clip into Spanish by the real protocol, leave the results, stop it.",
    "dub": "Dub a file: INPUT goes to the server fragment by fragment, out come the dub and subtitles.",
    "fetch": "Fetch the weights that a configuration's engines download, and check them against their SHA-256 hashes.",
    "languages": "List the languages that a running server dubs from and into.",
    "plan": "Say what a number of streams needs: replicas, GPUs, CPUs, memory, and where each figure comes from.",
    "schema": "Print the JSON Schema of all wire events and the table of error codes.",
    "token": "Sign a token that opens streams of a server, and print it alone, to be piped on.",
    "transcribe": "Caption a file, standard input or the microphone: INPUT goes to the server, out comes what is said.",
    "voices": "List the voices that streams of a configuration may ask for, by language, and each language's default.",
    "serve": "Start the service and keep it running until SIGTERM or Ctrl-C, then let streams finish.",
}
"""What help says of our own commands, so that listing them imports none: the first line of each one's docstring."""


class Later(TyperCommand):
    """One of our own commands, imported when it is called."""

    def __init__(self, point: EntryPoint) -> None:
        super().__init__(point.name, help=SUMMARIES[point.name])
        self._point = point

    def make_context(self, *given: Any, **options: Any) -> Any:
        """Of the command itself."""
        return self.command.make_context(*given, **options)

    @property
    def params(self) -> list[Any]:
        """Arguments and options."""
        params: list[Any] = self.command.params
        return params

    @params.setter
    def params(self, _: object) -> None:
        """They are the command's own."""

    @property
    def command(self) -> Any:
        """What it stands for."""
        return _load(self._point)


class CommandGroup(TyperGroup):
    """The built-in commands and those of the entry point group."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names in the order in which help shows them."""
        own: list[str] = super().list_commands(ctx)
        return own + sorted(point.name for point in _points() if point.name not in own)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or one that explains why it can't be had; None: no such name."""
        own = super().get_command(ctx, cmd_name)
        if own is not None:
            return own
        point = next((point for point in _points() if point.name == cmd_name), None)
        if point is None:
            return None
        return Later(point) if point.name in SUMMARIES else _load(point)


def _points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=GROUP))


def _load(point: EntryPoint) -> Any:
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        return _command(point.name, _unavailable(point, error))
    if isinstance(found, typer.Typer):
        command = typer.main.get_command(found)
        command.name = point.name
        return command
    return _command(point.name, found)


def _command(name: str, function: Callable[..., Any]) -> Any:
    app = typer.Typer(add_completion=False)
    app.command(name, context_settings=_ANYTHING if function.__name__ == "unavailable" else None)(function)
    return typer.main.get_command(app)


_ANYTHING = {"allow_extra_args": True, "ignore_unknown_options": True}


def _unavailable(point: EntryPoint, error: Exception) -> Callable[[], None]:
    extras = ",".join(point.extras)
    remedy = (
        f"install it with: pip install 'livedub[{extras}]'" if extras else f"see that {point.value} can be imported"
    )

    def unavailable() -> None:
        typer.echo(f"livedub {point.name} can't run here: {error}; {remedy}", err=True)
        raise typer.Exit(2)

    unavailable.__doc__ = "Not available in this installation."
    return unavailable
