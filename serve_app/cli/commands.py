"""The server's part of the `livedub` command line: serve, config, schema. The client loads it by its entry points."""

import json
import logging
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from serve_app.cli.demo import DemoError, run_demo
from serve_app.configuration.environment import is_service_link
from serve_app.configuration.loading import ConfigError, effective
from serve_app.configuration.serve_file import args_of, check_live, read_config, read_schema, user_config_of
from serve_app.configuration.serve_schema import MAX_PORT
from serve_app.configuration.shipped import CLIP
from serve_app.observability.gpus import count_gpus
from serve_app.operations.launcher import LaunchError, LaunchOptions, launch
from serve_app.operations.place import check_folder
from serve_app.operations.preflight import missing
from serve_app.operations.terminal import Console as ServiceConsole
from serve_app.operations.terminal import LogFormat
from serve_app.protocol import json_schema

USAGE_ERROR = 2
SOMETHING_MISSING = 1
NOT_UP = 1
ConfigFile = Annotated[
    Path, typer.Argument(help="Serve configuration: a file, or the name of a shipped one, such as echo.")
]


def _port(text: str) -> int | None:
    if is_service_link("LIVEDUB_PORT", text):
        return None
    if text.isdecimal() and 1 <= int(text) <= MAX_PORT:
        return int(text)
    raise typer.BadParameter(f"{text!r} is not a number from 1 to {MAX_PORT}")


def serve(
    config: ConfigFile = Path("local"),
    host: Annotated[str | None, typer.Option(envvar="LIVEDUB_HOST", help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(envvar="LIVEDUB_PORT", parser=_port, metavar="PORT", help="Port, 1 to 65535.")
    ] = None,
    *,
    dashboard: Annotated[bool, typer.Option(help="Start Ray's dashboard too.")] = False,
    start_timeout_s: Annotated[float, typer.Option(min=1, help="Give up when it is not ready by then.")] = 300.0,
    drain_timeout_s: Annotated[
        float, typer.Option(envvar="LIVEDUB_DRAIN_TIMEOUT_S", min=0, help="Time for streams to finish at the end.")
    ] = 30.0,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="A running Ray cluster to serve on; else one starts here."),
    ] = None,
    log_format: Annotated[
        LogFormat,
        typer.Option(
            envvar="LIVEDUB_LOG_FORMAT", help="Logs: text, json, or auto: text on a terminal and json elsewhere."
        ),
    ] = "auto",
) -> None:
    """Start the service and keep it running until SIGTERM or Ctrl-C, then let streams finish.

    Runs the same configuration that `serve run` takes. The same signal again, a second later, stops at once.

    Exit code 0: stopped as asked; 1: it did not come up, or Ray ended under it; 2: the configuration or the environment
    is wrong, or the port is taken, and nothing was started; 130 and 143: stopped at once by a second signal.
    """
    console = ServiceConsole(sys.stderr, log_format)
    try:
        launch(LaunchOptions(config, host, port, dashboard, start_timeout_s, drain_timeout_s, address), console)
    except (ConfigError, LaunchError) as error:
        console.tell(f"error: {error}")
        raise typer.Exit(USAGE_ERROR if isinstance(error, ConfigError) else NOT_UP) from None


def config(
    config: ConfigFile = Path("local"),
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Check a configuration and show every value in force and where it comes from. Secrets are hidden."""
    try:
        schema = read_config(config)
        settings = effective(args_of(schema), user_config_of(schema), os.environ)
    except ConfigError as error:
        Console(stderr=True).print(f"livedub: error: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(USAGE_ERROR) from None
    if as_json:
        shown = {s.path: {"value": s.value, "origin": s.origin} for s in settings}
        typer.echo(json.dumps(shown, indent=2, default=str))
        return
    table = Table("setting", "value", "origin", title=escape(str(config)))
    for setting in settings:
        table.add_row(setting.path, escape(str(setting.value)), setting.origin)
    Console().print(table)


def check(
    config: ConfigFile = Path("local"),
    *,
    address: Annotated[
        str | None,
        typer.Option(envvar="RAY_ADDRESS", help="A running Ray cluster whose GPUs count; else those of this machine."),
    ] = None,
) -> None:
    """Say what a configuration needs and lacks here: keys, packages, programs, voices, GPUs. Starts nothing.

    Exit code 0: nothing is missing; 1: something is; 2: the configuration is wrong.
    """
    console = Console(stderr=True)
    try:
        schema = read_schema(config)
        check_live(schema)
        if address is None:
            check_folder(os.environ)
        lacking = missing(args_of(schema), os.environ, _gpus_at(address))
    except ConfigError as error:
        console.print(f"livedub: error: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(USAGE_ERROR) from None
    for sentence in lacking:
        typer.echo(f"{config}: missing: {sentence}")
    if lacking:
        raise typer.Exit(SOMETHING_MISSING)
    typer.echo(f"{config}: everything that it needs is here")


def schema() -> None:
    """Print the JSON Schema of all wire events and the table of error codes."""
    typer.echo(json.dumps(json_schema(), indent=2))


def demo(
    clip: Annotated[Path, typer.Argument(help="English speech, any audio or video file.")] = CLIP,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("demo-out"),
    config: Annotated[Path, typer.Option(help="Configuration of the service: a file, or a name.")] = Path("local"),
) -> None:
    """Start the service, dub a real clip into Spanish by the real protocol, leave the results, stop it."""
    console = Console(stderr=True)

    def tell(line: str) -> None:
        console.print(f"demo: {line}", highlight=False, markup=False, soft_wrap=True)

    try:
        code = run_demo(clip, config, out, tell)
    except DemoError as error:
        tell(f"error: {error}")
        raise typer.Exit(USAGE_ERROR) from None
    if code == 0:
        tell(f"done; listen to the dub and read the subtitles in {out}/")
    raise typer.Exit(code)


def _gpus_at(address: str | None) -> float:
    if address is None:
        return count_gpus()
    import ray  # noqa: PLC0415 - heavy, and only this way of asking needs it

    ray.init(address=address, logging_level=logging.ERROR)
    try:
        resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
        return resources.get("GPU", 0.0)
    finally:
        ray.shutdown()
