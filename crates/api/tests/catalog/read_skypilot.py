#!/usr/bin/env python3
"""Reads /v1/catalog.csv?format=skypilot with SkyPilot's own catalog code, and prints what it found as JSON.

    read_skypilot.py URL_OF_THE_API FOLDER_FOR_ITS_FILES

SkyPilot knows its clouds by name and ours is none of them, so the file takes the place of one whose machines have no
zones, as ours have none.
"""

import json
import os
import pathlib
import sys
import urllib.request

url, folder = sys.argv[1], pathlib.Path(sys.argv[2]).resolve()
# before SkyPilot is imported: it decides then where its files are, and whether to tell anybody
os.environ["HOME"] = os.environ["SKY_RUNTIME_DIR"] = str(folder)
os.environ["SKYPILOT_DISABLE_USAGE_COLLECTION"] = "1"

from sky.catalog import common  # noqa: E402

CLOUD = "vast"
path = pathlib.Path(common.get_catalog_path(f"{CLOUD}/vms.csv"))
assert folder in path.parents, path
path.parent.mkdir(parents=True, exist_ok=True)
with urllib.request.urlopen(f"{url}/v1/catalog.csv?format=skypilot") as answer:
    path.write_bytes(answer.read())

table = common.read_catalog(f"{CLOUD}/vms.csv")
found = {}
listed = common.list_accelerators_impl(CLOUD, table, True, None, None, None, all_regions=True)
for name, instances in listed.items():
    for info in instances:
        assert common.instance_type_exists_impl(table, info.instance_type)
        vcpus, memory = common.get_vcpus_mem_from_instance_type_impl(table, info.instance_type)
        assert (vcpus, memory) == (info.cpu_count, info.memory), info
        cost = common.get_hourly_cost_impl(table, info.instance_type, False, info.region, None)
        assert cost == info.price > 0, info
        accelerators = common.get_accelerators_from_instance_type_impl(table, info.instance_type)
        assert accelerators == {name: info.accelerator_count}, accelerators
    cheapest, _ = common.get_instance_type_for_accelerator_impl(table, name, instances[0].accelerator_count)
    found[name] = {
        "cheapest": cheapest,
        "instances": [
            [info.instance_type, info.accelerator_count, info.device_memory, info.price, info.region]
            for info in instances
        ],
    }
print(json.dumps(found))
