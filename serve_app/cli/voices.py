"""`livedub voices`: which voices a configuration speaks. Starts nothing and loads no model."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from serve_app.configuration.loading import ConfigError, load_args, load_voices
from serve_app.configuration.serve_file import args_of, read_config

USAGE_ERROR = 2


def voices(
    config: Annotated[
        Path, typer.Argument(help="Serve configuration: a file, or the name of a shipped one, such as local.")
    ] = Path("local"),
) -> None:
    """List the voices that streams of a configuration may ask for, by language, and each language's default.

    Exit code 0: listed; 2: the configuration is wrong.
    """
    try:
        app = load_args(args_of(read_config(config)), os.environ)
        book = load_voices(app.voices)
    except ConfigError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(USAGE_ERROR) from None
    engines = [app.tts, *([app.tts.faster] if app.tts.faster else [])]
    table = Table("language", "voice", "engine", "default", "")
    for options in engines:
        spoken, defaults = book.for_engine(options.build().voice_models)
        for name, voice in sorted(spoken.items(), key=lambda item: (item[1].language, item[0])):
            default = "yes" if name in defaults.values() else ""
            table.add_row(voice.language, name, options.engine, default, voice.description)
    Console().print(table)
