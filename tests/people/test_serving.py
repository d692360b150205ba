import socket

import pytest

from preferans.errors import PreferansError
from preferans.people.serving import serve

from ..support.rating import make_studio


def test_a_busy_port_is_an_error_with_a_remedy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(
            PreferansError, match=rf"--port {port}: this address cannot be used .*choose another --port"
        ):
            serve(make_studio(tmp_path, port=port))


def test_an_unknown_host_is_an_error(tmp_path):
    with pytest.raises(PreferansError, match=r"--host 203\.0\.113\.7 "):
        serve(make_studio(tmp_path, host="203.0.113.7"))
