"""The command line `livedub`: a group whose commands are imported when they are called."""

from importlib.metadata import version
from typing import Annotated

import typer

from livedub.commands import CommandGroup

app = typer.Typer(cls=CommandGroup, no_args_is_help=True, rich_markup_mode="rich")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"livedub {version('livedub')}")
        raise typer.Exit


@app.callback()
def livedub(
    *,
    _: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which livedub this is.")
    ] = False,
) -> None:
    """Dub live streams, and files, into another language."""


def main() -> None:
    """The entry point of `livedub`."""
    app()
