"""Clusters of a test's own take a while to start: they run with SPENDMETER_CLUSTER=all, `make cluster`."""

import os

if os.environ.get("SPENDMETER_CLUSTER") != "all":
    collect_ignore_glob = ["test_*.py"]
