"""Weights are fetched once and never used unless they are the ones that were meant."""

import hashlib

import pytest
import typer
import yaml
from typer.testing import CliRunner

from serve_app.cli import fetch as fetching
from serve_app.configuration.serve_schema import BUILD
from serve_app.configuration.shipped import PROJECT_DIR
from serve_app.operations import weights
from serve_app.operations.weights import Source, WeightsError, await_fetched, fetch, sources

PROD = yaml.safe_load((PROJECT_DIR / "configs" / "prod.yaml").read_text(encoding="utf-8"))["applications"][0]["args"]
FAKE = {"engine": "fake"}


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    (folder / "deep" / "vocabulary.txt").write_bytes(b"words")
    return folder


@pytest.fixture
def source(model):
    return Source("asr", "medium", lambda: (model,))


@pytest.fixture
def told():
    return []


def test_production_fetches_what_its_engines_name_without_a_key():
    assert [(source.kind, source.model) for source in sources(PROD, {})] == [
        ("asr", "medium"),
        ("tts", "tts_models/multilingual/multi-dataset/xtts_v2"),
    ]


def test_environment_variables_pick_what_is_fetched():
    chosen = {"LIVEDUB_ASR__MODEL": "embedded", "LIVEDUB_TTS__MODEL": "tts_models/es/css10/vits"}
    assert sources(PROD, chosen | {"LIVEDUB_TTS__ENGINE": "coqui"})[0].model == "tts_models/es/css10/vits"
    assert sources({"asr": FAKE, "translation": FAKE, "tts": FAKE}, {}) == []


def test_the_first_time_the_hashes_are_written_as_sha256sum_does(source, tmp_path, told):
    sums = tmp_path / "SHA256SUMS"
    fetch([source], sums, told.append)
    assert sums.read_text().splitlines() == [
        f"{hashlib.sha256(b'words').hexdigest()}  asr/medium/deep/vocabulary.txt",
        f"{hashlib.sha256(b'weights').hexdigest()}  asr/medium/model.bin",
    ]
    assert "keep it" in told[-1]


def test_the_second_time_they_are_compared(source, tmp_path, told):
    sums = tmp_path / "SHA256SUMS"
    fetch([source], sums, told.append)
    fetch([source], sums, told.append)
    assert told[-1] == f"asr/medium: all 2 files are those of {sums}"


def test_another_model_is_added_and_the_one_before_stays_listed(source, model, tmp_path, told):
    sums = tmp_path / "SHA256SUMS"
    fetch([source], sums, told.append)
    listed = sums.read_text().splitlines()
    fetch([Source("asr", "org/large", lambda: (model / "model.bin",))], sums, told.append)
    assert sums.read_text().splitlines() == [
        *listed,
        f"{hashlib.sha256(b'weights').hexdigest()}  asr/org--large/model/model.bin",
    ]
    fetch([source], sums, told.append)


def test_an_empty_folder_holds_no_weights(tmp_path, told):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="no files in"):
        fetch([Source("asr", "medium", lambda: (tmp_path / "empty",))], tmp_path / "SHA256SUMS", told.append)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda folder: (folder / "model.bin").write_bytes(b"others"), "asr/medium/model.bin has SHA-256 .*, expected"),
        (lambda folder: (folder / "model.bin").unlink(), "asr/medium/model.bin is missing"),
        (lambda folder: (folder / "more.bin").write_bytes(b""), "asr/medium/more.bin is not in the list"),
    ],
)
def test_other_weights_are_refused_by_name(change, complaint, source, model, tmp_path, told):
    sums = tmp_path / "SHA256SUMS"
    fetch([source], sums, told.append)
    change(model)
    with pytest.raises(WeightsError, match=complaint):
        fetch([source], sums, told.append)
    with pytest.raises(WeightsError, match=complaint):
        await_fetched([source], sums, told.append, 0.0)


def test_a_blob_of_the_hub_that_is_not_what_its_name_says_is_damaged(source, model, tmp_path, told):
    blob = tmp_path / hashlib.sha256(b"whole").hexdigest()
    blob.write_bytes(b"half")
    (model / "model.bin").unlink()
    (model / "model.bin").symlink_to(blob)
    with pytest.raises(WeightsError, match=r"model.bin is damaged"):
        fetch([source], tmp_path / "SHA256SUMS", told.append)
    blob.write_bytes(b"whole")
    fetch([source], tmp_path / "SHA256SUMS", told.append)


def test_files_of_the_same_name_in_two_folders_are_told_apart(tmp_path, told):
    places = [tmp_path / "voice" / "model_file.pth", tmp_path / "vocoder" / "model_file.pth"]
    for place in places:
        place.parent.mkdir()
        place.write_bytes(place.parent.name.encode())
    sums = tmp_path / "SHA256SUMS"
    fetch([Source("tts", "vits", lambda: tuple(places))], sums, told.append)
    assert [line.split()[1] for line in sums.read_text().splitlines()] == [
        "tts/vits/vocoder/model_file.pth",
        "tts/vits/voice/model_file.pth",
    ]


def test_what_can_not_be_fetched_is_told_in_one_line_and_leaves_no_hashes(tmp_path, told):
    def offline():
        raise OSError("no route\nto host")

    with pytest.raises(WeightsError, match="tts/xtts can't be had: OSError: no route to host"):
        fetch([Source("tts", "xtts", offline)], tmp_path / "SHA256SUMS", told.append)
    assert list(tmp_path.iterdir()) == []


def test_a_list_that_is_none_is_refused(source, tmp_path, told):
    sums = tmp_path / "SHA256SUMS"
    sums.write_text("asr/model.bin\n")
    with pytest.raises(WeightsError, match="line 1"):
        fetch([source], sums, told.append)


def test_waiting_ends_when_the_hashes_are_there(source, tmp_path, told):
    sums, clock = tmp_path / "SHA256SUMS", [0.0]

    def sleep(seconds):
        clock[0] += seconds
        if clock[0] >= 20:
            fetch([source], sums, told.append)

    await_fetched([source], sums, told.append, 60.0, sleep=sleep, now=lambda: clock[0])
    assert clock[0] == 20
    assert told[-1] == f"asr/medium: all 2 files are those of {sums}"


def test_waiting_ends_when_its_time_is_over(source, tmp_path, told):
    clock = [0.0]
    with pytest.raises(WeightsError, match=r"asr/medium not listed in .* after 12 s"):
        await_fetched(
            [source],
            tmp_path / "SHA256SUMS",
            told.append,
            12.0,
            sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds),
            now=lambda: clock[0],
        )
    assert clock[0] == 12


def test_how_much_has_come_is_told_while_it_comes(model, tmp_path, told, monkeypatch):
    monkeypatch.setattr(weights, "TELL_EVERY_S", 0.001)
    cache = tmp_path / "cache"
    cache.mkdir()

    def bring():
        (cache / "blob").write_bytes(bytes(3 * weights.MIB))
        while "fetched 3 MiB" not in told:
            pass
        return (model,)

    fetch([Source("asr", "medium", bring)], tmp_path / "SHA256SUMS", told.append, cache)
    assert "fetched 3 MiB" in told


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")  # the command sets it for its process
    app = typer.Typer()
    app.command()(fetching.fetch)

    def invoke(args: dict, *options: str):
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump({"applications": [{"import_path": BUILD, "args": args}]}))
        return CliRunner().invoke(app, [str(config), "--sums", str(tmp_path / "SHA256SUMS"), *options])

    return invoke


def test_the_command_checks_a_folder_of_weights(run, model):
    args = {"asr": {"engine": "faster_whisper", "model": str(model)}, "translation": FAKE, "tts": FAKE}
    assert run(args, "--await-s", "0").exit_code == fetching.NOT_FETCHED
    assert run(args).exit_code == 0
    assert run(args, "--await-s", "0").exit_code == 0
    (model / "model.bin").write_bytes(b"others")
    refused = run(args)
    assert refused.exit_code == fetching.NOT_FETCHED
    assert "model.bin has SHA-256" in refused.stderr


def test_the_command_tells_of_nothing_to_fetch_and_of_wrong_files(run):
    done = run({"asr": FAKE, "translation": FAKE, "tts": FAKE})
    assert (done.exit_code, "does not come in packages" in done.stderr) == (0, True)
    assert run({"asr": {"engine": "nobody"}, "translation": FAKE, "tts": FAKE}).exit_code == fetching.USAGE_ERROR
