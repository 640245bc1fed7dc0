"""Which file a configuration's name means."""

from pathlib import Path

import pytest

from serve_app.configuration.loading import ConfigError
from serve_app.configuration.serve_file import read_schema
from serve_app.configuration.shipped import CLIP, CONFIGS, configuration, names


def test_what_is_shipped_is_there():
    assert names() == ["echo", "fakes", "local", "prod"]
    assert CLIP.is_file()


def test_a_name_means_the_shipped_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert configuration(Path("echo")) == CONFIGS / "echo.yaml"


def test_a_file_where_the_user_is_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo").touch()
    assert configuration(Path("echo")) == Path("echo")


def test_a_folder_of_a_shipped_name_is_no_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "echo").mkdir()
    assert configuration(Path("echo")) == CONFIGS / "echo.yaml"


@pytest.mark.parametrize("given", ["mine.yaml", "folder/echo", "../echo", "nothing"])
def test_anything_else_is_a_path(given):
    assert configuration(Path(given)) == Path(given)


def test_a_file_that_is_not_there_is_told_with_the_names_there_are(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: No such file or directory; by name there are echo, fakes,"):
        read_schema(tmp_path / "none.yaml")
