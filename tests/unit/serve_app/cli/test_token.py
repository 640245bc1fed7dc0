"""Tokens that a server with the same secret lets in."""

import time

import pytest
import typer
from pydantic import SecretStr
from typer.testing import CliRunner

from serve_app.access import AuthOptions
from serve_app.access.auth import Authenticator
from serve_app.cli.token import token

SECRET = "a secret of more than thirty-two bytes"  # noqa: S105 - of this test alone
SERVER = {"LIVEDUB_AUTH__JWT_SECRET": SECRET, "LIVEDUB_AUTH__JWT_AUDIENCE": "livedub"}


def run(*options: str, environ: dict[str, str] = SERVER):
    app = typer.Typer()
    app.command()(token)
    return CliRunner().invoke(app, list(options), env=dict.fromkeys(SERVER, "") | environ)


def test_the_server_lets_it_in_until_it_expires():
    signed = run("--stream", "news-*", "--subject", "studio", "--expires-s", "60").stdout.strip()
    assert signed.count(".") == 2
    server = Authenticator(AuthOptions(jwt_secret=SecretStr(SECRET), jwt_audience="livedub"))
    subject = server.subject({"token": signed}, time.time())
    assert subject.streams == ("news-*",)
    assert subject.expires_unix_s == pytest.approx(time.time() + 60, abs=2)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"LIVEDUB_AUTH__JWT_AUDIENCE": "livedub"}, "LIVEDUB_AUTH__JWT_SECRET is not set"),
        ({"LIVEDUB_AUTH__JWT_SECRET": SECRET}, "LIVEDUB_AUTH__JWT_AUDIENCE is not set"),
        (SERVER | {"LIVEDUB_AUTH__JWT_SECRET": "short"}, "at least 32 bytes"),
    ],
)
def test_what_the_server_would_not_take_is_refused_in_a_line(environ, said):
    refused = run("--stream", "s", environ=environ)
    assert refused.exit_code == 2
    assert said in refused.stderr
    assert refused.stdout == ""
    assert SECRET not in refused.stderr
