"""`livedub token`: a JSON Web Token for a worker. The secret is read from the environment, and never shown."""

import time
from typing import Annotated

import jwt
import typer
from pydantic import SecretStr, ValidationError

from serve_app.access import AuthOptions

USAGE_ERROR = 2
HOUR_S = 3600
LONGEST_S = 10 * 365 * 24 * HOUR_S


def token(
    stream: Annotated[
        list[str],
        typer.Option(help="A stream id that it opens, or a pattern such as news-*. May be given several times."),
    ],
    subject: Annotated[str, typer.Option(help="Whose it is: who takes a stream over needs the same.")] = "worker",
    expires_s: Annotated[int, typer.Option(min=1, max=LONGEST_S, help="Seconds that it is valid for.")] = HOUR_S,
    secret: Annotated[
        str | None, typer.Option(envvar="LIVEDUB_AUTH__JWT_SECRET", help="The server's; better given by the variable.")
    ] = None,
    audience: Annotated[
        str | None, typer.Option(envvar="LIVEDUB_AUTH__JWT_AUDIENCE", help="The server's jwt_audience.")
    ] = None,
) -> None:
    """Sign a token that opens streams of a server, and print it alone, to be piped on.

    Exit code 0: signed; 2: the secret or the audience is missing, or the server would refuse them.
    """
    if not secret or not audience:
        lacking = "LIVEDUB_AUTH__JWT_SECRET" if not secret else "LIVEDUB_AUTH__JWT_AUDIENCE"
        raise _refusal(f"{lacking} is not set; a server that takes tokens has a secret and an audience")
    try:
        options = AuthOptions(jwt_secret=SecretStr(secret), jwt_audience=audience)
    except ValidationError as error:
        message = error.errors(include_url=False, include_input=False)[0]["msg"].removeprefix("Value error, ")
        raise _refusal(message) from None
    claims = {"exp": int(time.time()) + expires_s, "aud": audience, "sub": subject, "streams": stream}
    typer.echo(jwt.encode(claims, secret, algorithm=options.jwt_algorithm))


def _refusal(message: str) -> typer.Exit:
    typer.echo(f"livedub: {message}", err=True)
    return typer.Exit(USAGE_ERROR)
