"""`livedub plan`. The client's command line loads it by its entry point."""

import json
import os
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from serve_app.configuration.loading import ConfigError, load_args, load_user_config
from serve_app.configuration.serve_file import args_of, read_schema, user_config_of
from serve_app.planning.figures import CARDS
from serve_app.planning.plan import Demand, Plan
from serve_app.planning.plan import plan as planned
from serve_app.planning.reading import Given, PlanError, card_named, works_of
from serve_app.planning.report import text, values
from serve_app.protocol import Machine, MeasuredTimes

USAGE_ERROR = 2
PROBLEMS = 1
ANSWER_S = 5.0
MOST_STREAMS = 1_000_000
CARD = f"GPU to plan for: cpu (none), {', '.join(CARDS)}; any other by own measurements."
OWN = "Own measurement: ms of a replica's time a fragment, with its card to itself (python -m bench.stages)."


def plan(
    streams: Annotated[int, typer.Option(min=0, max=MOST_STREAMS, help="Streams at the busiest time.")],
    gpu: Annotated[
        str, typer.Option(help=f"GPU to plan for: cpu (none), {', '.join(CARDS)}; others by own measurements.")
    ],
    config: Annotated[Path, typer.Option(help="Engines, models, num_gpus and bounds are read here.")] = Path("prod"),
    *,
    least_streams: Annotated[int, typer.Option(min=0, max=MOST_STREAMS, help="Streams at the quietest time.")] = 0,
    fragment_s: Annotated[float, typer.Option(min=0.1, max=30, help="Length of a fragment.")] = 6.0,
    target_utilisation: Annotated[float, typer.Option(min=0.05, max=1, help="How busy a replica may be.")] = 0.6,
    gpu_memory_gib: Annotated[float | None, typer.Option(min=1, help="The card's memory, if not known.")] = None,
    asr_ms: Annotated[float | None, typer.Option(min=0.1, help=OWN)] = None,
    translation_ms: Annotated[float | None, typer.Option(min=0.1, help="Own measurement of one call.")] = None,
    tts_ms: Annotated[float | None, typer.Option(min=0.1, help=OWN)] = None,
    server: Annotated[
        str | None, typer.Option(help="A running server, http://host:port: what its models took there at their start.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object instead of text.")] = False,
) -> None:
    """Say what a number of streams needs: replicas, GPUs, CPUs, memory, and where each figure comes from.

    Starts nothing. Exit code 0: planned; 1: planned, with a problem; 2: the configuration is wrong or a figure missing.
    """
    load = Demand(streams, fragment_s, target_utilisation, least_streams)
    try:
        told = _told_by(server) if server else MeasuredTimes()
        given = Given(asr_ms, translation_ms, tts_ms, (server or "").rstrip("/"), told)
        result = _planned(config, load, gpu, gpu_memory_gib, given)
    except (ConfigError, PlanError) as error:
        Console(stderr=True).print(f"livedub: error: {error}", highlight=False, markup=False, soft_wrap=True)
        raise typer.Exit(USAGE_ERROR) from None
    typer.echo(json.dumps(values(result), indent=2) if as_json else text(result, str(config)))
    if result.problems:
        raise typer.Exit(PROBLEMS)


def _told_by(server: str) -> MeasuredTimes:
    """What the models of a server measured.

    Raises:
        PlanError: it doesn't answer, isn't ready or isn't this service.
    """
    url = f"{server.rstrip('/')}/ready"
    try:
        return Machine.model_validate(httpx.get(url, timeout=ANSWER_S).raise_for_status().json()).measured
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise PlanError(f"--server: {url}: {' '.join(str(error).split())[:300]}") from None


def _planned(path: Path, load: Demand, gpu: str, memory_gib: float | None, given: Given) -> Plan:
    schema = read_schema(path)
    config = load_args(args_of(schema), os.environ)
    timeout_ms = load_user_config(user_config_of(schema), os.environ).streams.timeout_ms
    card = card_named(gpu, memory_gib)
    works = works_of(schema["applications"][0], config, card, load.fragment_s, given)
    return planned(load, works, card, timeout_ms)
