"""Commands of `livedub` that other packages bring, by the entry point group `livedub.commands`.

An entry point is a typer.Typer app or a function that typer can turn into a command. It is imported when it is called
or listed, and a broken one says so then, without harm to the others.
"""

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperGroup

GROUP = "livedub.commands"


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
        return None if point is None else _load(point)


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
