"""For client code that meets several faults in one process, because importing the libraries takes longest."""

import json
import os
import urllib.request


def fault(method: str, path: str, **what) -> None:
    """Plan a fault of the Hub; the arguments are those of its `fault` except `then`."""
    body = json.dumps({"method": method, "path": path} | what).encode()
    urllib.request.urlopen(urllib.request.Request(os.environ["HF_ENDPOINT"] + "/loophub/faults", body))
