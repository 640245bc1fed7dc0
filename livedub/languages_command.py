"""`livedub languages`: what a running server dubs from and into."""

import asyncio
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from livedub.dub_client import DubClient
from livedub.errors import DubError, InitRefused
from livedub.options import ServerUrl, Token
from serve_app.protocol import ErrorCode, StreamConfig

REFUSED = 2
_NO_LANGUAGE = "zxx"
"""BCP-47 for no linguistic content: nothing is dubbed into it, so a server answers with what it can do."""


def languages(server: ServerUrl = "http://127.0.0.1:8000", token: Token = None) -> None:
    """List the languages that a running server dubs from and into.

    Exit code 0: listed; 2: the server can't be asked.
    """
    try:
        allowed = asyncio.run(_allowed(server, token))
    except DubError as error:
        typer.echo(f"livedub: {error}", err=True)
        raise typer.Exit(REFUSED) from None
    table = Table("from and to")
    for pair in str(allowed).split(", "):
        table.add_row(pair)
    Console().print(table)


async def _allowed(server: str, token: str | None) -> Any:
    config = StreamConfig(
        target_language=_NO_LANGUAGE, chunk_duration_ms=6000, sample_rate_hz=16_000, channels=1, format="pcm_s16le"
    )
    try:
        async with DubClient(server.split(","), config=config, token=token):
            return "any language to any other"
    except InitRefused as refusal:
        if refusal.code != ErrorCode.UNSUPPORTED_LANGUAGE_PAIR:
            raise
        return refusal.details.get("allowed", refusal.message)
