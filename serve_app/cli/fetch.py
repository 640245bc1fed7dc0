"""`livedub fetch`: the weights of a configuration, before anything needs them."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from serve_app.configuration.loading import ConfigError
from serve_app.configuration.serve_file import args_of, read_schema
from serve_app.operations.weights import WeightsError, await_fetched, sources
from serve_app.operations.weights import fetch as fetch_weights

NOT_FETCHED = 1
USAGE_ERROR = 2


def fetch(
    config: Annotated[Path, typer.Argument(help="Serve configuration: a file, or a name.")] = Path("prod"),
    *,
    sums: Annotated[Path, typer.Option(help="Hashes to compare with; written when there are none yet.")] = Path(
        "SHA256SUMS"
    ),
    cache: Annotated[
        Path | None, typer.Option(envvar="HF_HOME", help="Folder that downloads go to, for telling how far they are.")
    ] = None,
    await_s: Annotated[
        float | None, typer.Option(min=0, help="Fetch nothing: wait so long for another `livedub fetch` to be done.")
    ] = None,
) -> None:
    """Fetch the weights that a configuration's engines download, and check them against their SHA-256 hashes.

    Where they go is the libraries' choice: HF_HOME and TTS_HOME. Exit code 0: all is there and as it should be;
    1: something is missing or not what it should be; 2: the configuration is wrong.
    """
    console = Console(stderr=True)

    def tell(line: str) -> None:
        console.print(f"livedub: {line}", highlight=False, markup=False, soft_wrap=True)

    try:
        found = sources(args_of(read_schema(config)), os.environ)
    except ConfigError as error:
        tell(f"error: {error}")
        raise typer.Exit(USAGE_ERROR) from None
    if not found:
        tell(f"{config} loads nothing that does not come in packages")
        return
    try:
        if await_s is None:
            fetch_weights(found, sums, tell, cache if cache is not None and cache.is_dir() else None)
        else:
            os.environ["HF_HUB_OFFLINE"] = "1"
            await_fetched(found, sums, tell, await_s)
    except WeightsError as error:
        tell(f"error: {error}")
        raise typer.Exit(NOT_FETCHED) from None
