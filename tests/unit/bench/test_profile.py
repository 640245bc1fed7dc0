"""What py-spy saw, by package and function."""

import pytest

from bench.profile import package, spent, stacks

RAW = """\
main (run.py:1);handle (serve_app/transport/server.py:20);loads (json/decoder.py:3) 30
main (run.py:1);handle (serve_app/transport/server.py:21) 10
main (run.py:1);send (/venv/lib/python3.11/site-packages/engineio/payload.py:7) 60
"""


def test_samples_count_for_the_innermost_frame():
    packages, functions = spent(stacks(RAW))
    assert packages == [("engineio", 60), ("json", 30), ("serve_app.transport", 10)]
    assert functions[1] == ("loads (json/decoder.py)", 30)


def test_lines_of_one_function_count_together():
    _, functions = spent(stacks("f (a.py:1) 1\nf (a.py:2) 3\n"))
    assert functions == [("f (a.py)", 100)]


@pytest.mark.parametrize(
    ("frame", "owner"),
    [
        ("f (/x/site-packages/ray/serve/proxy.py:7)", "ray.serve"),
        ("f (ray/serve/_private/proxy.py:7)", "ray.serve"),
        ("f (deployments/asr/deployment.py:7)", "deployments.asr"),
        ("run (asyncio/runners.py:118)", "asyncio"),
        ("_worker (threading.py:1)", "threading"),
        ("0x7f12", "native"),
    ],
)
def test_a_frame_belongs_to_the_package_of_its_file(frame, owner):
    assert package(frame) == owner


def test_nothing_seen_is_nothing_told():
    assert spent(stacks("")) == ([], [])
