"""
A Hub for tests on this machine, used by the unmodified clients.

The fixture `hub` (in `conftest.py`) is a [`TestHub`] with the users alice and bob and the organisation lab:

    hub.run("from huggingface_hub import HfApi; HfApi().create_repo('alice/x', private=True)", xet=False)
    hub.fault("POST", "/commit/", lost=True)
    hub.files("model", "alice/x")["README.md"]
    hub.asked("POST", "/commit/")

Code in `hub.run` can announce faults too, so that one process meets several of them:

    from loophub_client import fault
    fault("PUT", "/lfs/", status=503, headers={"Retry-After": "0"})

The fixture fails a test if its client requested an unknown route, or if a fault did not happen as often as announced.
"""

from .clients import TestHub
from .errors import HubError
from .faults import Fault

__all__ = ["Fault", "HubError", "TestHub"]
