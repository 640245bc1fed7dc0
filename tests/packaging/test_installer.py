"""What the installer tells uv, out of what pip is told."""

import functools
import importlib.util
import types

import pytest

from tests.support.server import PROJECT


@functools.cache
def installer() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("install", PROJECT / "requirements" / "install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("told", "variables"),
    [
        ({"index-url": "https://mirror.example/simple"}, {"UV_DEFAULT_INDEX": "https://mirror.example/simple"}),
        (
            {"extra-index-url": "https://a.example\nhttps://b.example"},
            {"UV_INDEX": "https://a.example https://b.example"},
        ),
        (
            {"find-links": "https://a.example https://b.example"},
            {"UV_FIND_LINKS": "https://a.example,https://b.example"},
        ),
        ({"proxy": "http://proxy.example"}, dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://proxy.example")),
        ({"trusted-host": "mirror.example"}, {"UV_INSECURE_HOST": "mirror.example"}),
        ({"timeout": "180", "constraint": "none.txt"}, {"UV_HTTP_TIMEOUT": "180"}),
        ({"cert": "/not/there.pem", "find-links": "/not/there file:///not/there"}, {}),
    ],
)
def test_uv_is_told_what_pip_is_told(monkeypatch, tmp_path, told, variables):
    """What isn't there is passed over, as pip does."""
    monkeypatch.setattr(installer(), "SYSTEM_CERTIFICATES", tmp_path / "none")
    assert installer().environment(told, {}) == variables | {"UV_INDEX_STRATEGY": "unsafe-best-match"}


def test_a_folder_that_is_there_is_told(tmp_path):
    assert installer().environment({"find-links": str(tmp_path)}, {})["UV_FIND_LINKS"] == str(tmp_path)


def test_a_proxy_that_is_set_already_stays():
    told = installer().environment({"proxy": "http://proxy.example"}, {"https_proxy": "http://other.example"})
    assert "HTTPS_PROXY" not in told
    assert told["HTTP_PROXY"] == "http://proxy.example"


def test_certificates_of_the_system_count_where_there_are_any(monkeypatch, tmp_path):
    monkeypatch.setattr(installer(), "SYSTEM_CERTIFICATES", tmp_path)
    assert "UV_SYSTEM_CERTS" not in installer().environment({}, {})
    (tmp_path / "all.crt").touch()
    monkeypatch.setattr(installer(), "SYSTEM_CERTIFICATES", tmp_path / "all.crt")
    assert installer().environment({}, {})["UV_SYSTEM_CERTS"] == "1"


def test_the_more_particular_configuration_of_pip_counts(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    monkeypatch.setenv("PIP_TIMEOUT", "3")
    (tmp_path / "pip.conf").write_text("[global]\ntimeout = 1\nretries = 1\n[install]\ntimeout = 2\nretries = 2\n")
    told = installer().pip_configuration()
    assert (told["timeout"], told["retries"]) == ("3", "2")


@pytest.mark.parametrize(
    ("amiss", "asks"),
    [
        ("The package `torch` requires `nvidia-cublas==13`, but it's not installed", True),
        ("torch 2.13.0 requires nvidia-cublas, which is not installed.", True),
        ("The package `torch` requires `nvidia-cublas-cu12==12`, but it's not installed", False),
        ("The package `torch` requires `sympy`, but it's not installed", False),
        ("", False),
    ],
)
def test_a_lock_is_asked_for_by_the_names_in_it(amiss, asks):
    lock = "nvidia-cublas==13.1 ; sys_platform == 'linux' \\\n    --hash=sha256:00\ntriton==3.7\n"
    assert installer().asks(amiss, lock) is asks
