#!/usr/bin/env python3
"""Reads /v1/catalog.csv?format=gpuhunt with gpuhunt's own catalog code, and prints what it found as JSON.

    read_gpuhunt.py URL_OF_THE_API FOLDER_FOR_ITS_FILES

gpuhunt knows its providers by name; ours is added to the list of those whose catalog is a file.
"""

import json
import logging
import os
import pathlib
import sys
import urllib.request

url, folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
os.environ["GPUHUNT_CATALOG_DIR"] = str(folder)

from gpuhunt import Catalog  # noqa: E402
from gpuhunt._internal import catalog, constraints, storage  # noqa: E402

# a row that gpuhunt cannot read it leaves out with a warning: here that is an error
warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("gpuhunt").addHandler(handler)

catalog.OFFLINE_PROVIDERS = ["weir"]
folder.mkdir(parents=True, exist_ok=True)
with urllib.request.urlopen(f"{url}/v1/catalog.csv?format=gpuhunt") as answer:
    text = answer.read().decode()
(folder / "weir.csv").write_text(text)

assert text.splitlines()[0].split(",") == storage.CATALOG_V2_FIELDS, text.splitlines()[0]
items = Catalog(balance_resources=False, auto_reload=False).query(provider="weir")
assert not warnings, warnings
assert len(items) == len(text.splitlines()) - 1, (len(items), text)
for item in items:
    # what its own table of GPUs says of the name that we gave
    known = [gpu for gpu in constraints.KNOWN_ACCELERATORS if gpu.name == item.gpu_name]
    assert known, f"gpuhunt knows no {item.gpu_name}"
    assert item.gpu_memory in [gpu.memory for gpu in known], item
    assert item.gpu_vendor in [gpu.vendor for gpu in known], item
named = Catalog(balance_resources=False, auto_reload=False).query(
    provider="weir", gpu_name="rtx4090", min_gpu_count=1, max_gpu_count=1, max_price=0.5, spot=False
)
print(
    json.dumps(
        {
            "all": [
                [i.instance_name, i.location, i.price, i.cpu, i.memory, i.gpu_count, i.gpu_name, i.gpu_memory]
                for i in items
            ],
            "named": [i.instance_name for i in named],
        }
    )
)
