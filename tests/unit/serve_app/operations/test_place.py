"""What the machine lacks is told in one line before anything starts."""

import socket
import tempfile
from pathlib import Path

import pytest

from serve_app.configuration.loading import ConfigError
from serve_app.operations.place import FREE_PORTS, check_folder, dashboard_token, free_port, ray_logs, reserve

EVERYWHERE = "0.0.0.0"  # noqa: S104


def refusal(host: str, port: int) -> str:
    with pytest.raises(ConfigError) as refused:
        reserve(host, port)
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1", EVERYWHERE),
        (EVERYWHERE, "127.0.0.1"),
        (EVERYWHERE, EVERYWHERE),
        ("127.0.0.1", "localhost"),
    ],
)
@pytest.mark.parametrize("shared", [False, True], ids=["alone", "SO_REUSEPORT"])
def test_a_port_that_somebody_listens_on_is_refused_with_the_remedy(theirs, ours, shared):
    """Also where the other would share it, as Serve's own proxy does."""
    with socket.create_server((theirs, 0), reuse_port=shared) as other:
        port = other.getsockname()[1]
        message = refusal(ours, port)
    assert f"port {port} of {ours} is in use" in message
    assert "--port" in message


def test_a_port_of_ipv6_is_refused_likewise():
    try:
        other = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 here")
    with other:
        for host in ("::1", "::"):
            assert "is in use" in refusal(host, other.getsockname()[1])


def test_a_port_is_taken_while_a_service_starts_on_it():
    """Ray takes seconds; a second livedub must not find it free in the meantime."""
    port = free_port()
    with reserve("127.0.0.1", port):
        assert "is in use" in refusal("127.0.0.1", port)
    reserve("127.0.0.1", port).close()


def test_what_keeps_a_port_lets_the_proxy_listen_on_it():
    port = free_port()
    with reserve("127.0.0.1", port), socket.create_server(("127.0.0.1", port), reuse_port=True):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_connections_that_have_just_ended_do_not_keep_a_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server.accept()[0].close()  # this side closes first, and waits
            client.recv(1)
    reserve("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("host", "told"),
    [("203.0.113.7", "203.0.113.7 is no address of this machine"), ("no-such-host.invalid", "can't listen on no-such")],
)
def test_an_address_of_another_machine_is_refused_with_the_remedy(host, told):
    message = refusal(host, 8000)
    assert told in message
    assert "--host" in message


@pytest.fixture
def short():
    """A folder with a short name; pytest's own are too long for sockets."""
    with tempfile.TemporaryDirectory(prefix="", dir=tempfile.gettempdir()) as folder:
        yield Path(folder)


@pytest.mark.parametrize("name", ["RAY_TMPDIR", "TMPDIR"])
def test_a_folder_too_long_for_sockets_is_told_with_the_longest_that_serves(name, tmp_path):
    folder = tmp_path / ("x" * 100)
    with pytest.raises(ConfigError) as refused:
        check_folder({name: str(folder)})
    message = str(refused.value)
    assert f"{name}={folder} is too long" in message
    assert "set RAY_TMPDIR to a folder of at most" in message
    assert not folder.exists()


def test_the_longest_folder_that_serves_is_taken(short):
    with pytest.raises(ConfigError) as refused:
        check_folder({"RAY_TMPDIR": f"{short}/{'x' * 100}"})
    room = int(str(refused.value).split("at most ")[1].split()[0])
    fitting = f"{short}/{'x' * (room - len(str(short)) - 1)}"
    check_folder({"RAY_TMPDIR": fitting})
    with pytest.raises(ConfigError, match="too long"):
        check_folder({"RAY_TMPDIR": fitting + "x"})


def test_a_folder_that_cannot_be_written_is_told(short):
    file = short / "file"
    file.touch()
    with pytest.raises(
        ConfigError, match=r"RAY_TMPDIR=.*/file: Ray can't write in .*/file/ray: Not a directory; set RAY"
    ):
        check_folder({"RAY_TMPDIR": str(file)})


def test_the_logs_are_where_ray_makes_its_folder():
    assert ray_logs({"RAY_TMPDIR": "/scratch"}).is_relative_to("/scratch/ray")


def test_the_dashboards_token_is_read_where_ray_keeps_it(tmp_path):
    path = tmp_path / "token"
    path.write_text("abc\n")
    token = {"RAY_AUTH_MODE": "token"}
    assert dashboard_token(token | {"RAY_AUTH_TOKEN_PATH": str(path)}) == "(token: abc)"
    assert dashboard_token(token | {"RAY_AUTH_TOKEN": "xyz"}) == "(token: xyz)"
    assert dashboard_token(token | {"RAY_AUTH_TOKEN_PATH": "/none"}) == "(its token lies in /none)"
    assert dashboard_token({"RAY_AUTH_MODE": "disabled"}) == "(it asks for no token)"


def test_a_free_port_can_be_listened_on():
    with socket.create_server(("127.0.0.1", free_port())) as server:
        assert server.getsockname()[1] in FREE_PORTS


def test_where_every_port_is_taken_it_is_said():
    with pytest.raises(ConfigError, match=r"found no free port from 20000 to 29999 of 192\.0\.2\.1: name one"):
        free_port("192.0.2.1")
