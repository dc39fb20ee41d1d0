"""A real browser for the tests of pages: one that is installed, else Debian's package, else Playwright's own.

python -m tests.browser      # finds or installs one, and says where it is; `make test` does this
"""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
INSTALL_WITHIN_SECONDS = 600


class NoBrowser(RuntimeError):
    """None is installed, and none could be."""


@cache
def find_browser() -> Path:
    """The browser's program; installs one where there is none. Raises NoBrowser."""
    found = _installed() or _from_debian() or _from_playwright()
    if found is None:
        raise NoBrowser(
            "the tests of pages need a browser; install Chromium (Debian: apt-get install chromium)"
        )
    return found


def _installed() -> Path | None:
    named = next(filter(None, map(shutil.which, NAMES)), None)
    return Path(named) if named else None


def _from_debian() -> Path | None:
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        return None
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    if not _runs(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], env):
        _runs(["apt-get", "update", "-qq"], env)
        _runs(["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"], env)
    return _installed()


def _from_playwright() -> Path | None:
    from playwright.sync_api import sync_playwright

    if not _runs([sys.executable, "-m", "playwright", "install", "chromium"], {**os.environ}):
        return None
    with sync_playwright() as playwright:
        path = Path(playwright.chromium.executable_path)
    return path if path.exists() else None


def _runs(command: list[str], env: dict[str, str]) -> bool:
    try:
        ended = subprocess.run(
            command, env=env, check=False, timeout=INSTALL_WITHIN_SECONDS, stdout=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return False
    return ended.returncode == 0


if __name__ == "__main__":
    print(find_browser())
