"""One gateway's start, in a process of its own: how long until it is ready, and how much it holds."""

import gc
import json
import sys
import time
from pathlib import Path

from spendmeter_gateway.gateway import Gateway
from spendmeter_gateway.settings import GatewaySettings

READY_WITHIN_SECONDS = 120
_PAGE_KIB = 4


def main() -> None:
    settings = GatewaySettings()
    gc.collect()
    before = _resident_kib()
    began, cpu = time.monotonic(), time.process_time()
    gateway = Gateway(settings)
    gateway.start()
    while not gateway.views.are_read:
        if time.monotonic() - began > READY_WITHIN_SECONDS:
            sys.exit("not ready")
        time.sleep(0.005)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    gc.collect()
    held = {"budgets": len(gateway.views.budgets.book), "windows": len(gateway.views.spend)}
    told = {"seconds": seconds, "cpu_seconds": cpu, "kib": _resident_kib() - before, **held}
    print(json.dumps(told), flush=True)
    gateway.stop()


def _resident_kib() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_KIB


if __name__ == "__main__":
    main()
