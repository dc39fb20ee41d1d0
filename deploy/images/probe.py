#!/usr/bin/env python3
"""Whether the process of this container answers: `probe PATH|URL …`, exit code 0 if all do.

A path is asked of the metrics page of this process.
"""

import http.client
import os
import sys
import urllib.request

TIMEOUT_SECONDS = 8
"""A process whose loop is stuck says so after five seconds."""
OWN_PORT = "SPENDMETER_METRICS_PORT"


def main(asked: list[str]) -> int:
    """Ask each in turn; the first that does not answer with 200 is named on standard error."""
    if not asked:
        print(__doc__, file=sys.stderr)
        return 2
    for one in asked:
        url = one if "://" in one else f"http://127.0.0.1:{os.environ.get(OWN_PORT, '0')}{one}"
        try:
            # No proxy from the environment: what is asked is in this container.
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(url, timeout=TIMEOUT_SECONDS):
                pass
        except (OSError, http.client.HTTPException) as error:
            print(f"{url}: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
