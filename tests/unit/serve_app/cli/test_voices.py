"""The voices of a configuration, named as streams name them."""

import pytest
import typer
from typer.testing import CliRunner

from serve_app.cli.voices import voices


def run(*arguments: str, **environ: str):
    app = typer.Typer()
    app.command()(voices)
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environ})


def test_each_voice_stands_with_its_language_and_engine():
    shown = run("local")
    assert shown.exit_code == 0, shown.output
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in shown.output.splitlines() if "│" in line]
    assert {row[2] for row in rows} == {"kokoro", "espeak"}
    assert all(row[0] and row[1] for row in rows)
    assert [row[1] for row in rows if row[0] == "es" and row[2] == "kokoro" and row[3] == "yes"]


@pytest.mark.parametrize("given", ["no_such.yaml", "nowhere"])
def test_a_configuration_that_is_not_there_is_said_in_a_line(given):
    refused = run(given)
    assert refused.exit_code == 2
    assert given in refused.stderr
