"""Options that several commands have."""

from typing import Annotated

import typer

ServerUrl = Annotated[
    str,
    typer.Option(
        "--server",
        envvar="LIVEDUB_SERVER",
        help="URL of the livedub server; several with commas between, tried in turn.",
    ),
]
Token = Annotated[
    str | None, typer.Option("--token", envvar="LIVEDUB_TOKEN", help="API key or JWT, if the server wants one.")
]
