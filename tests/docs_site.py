"""The docs site: docs/ as Zensical's pages, with llms.txt, made in build/docs.

    python -m tests.docs_site           # or `make docs`: build it; any fault ends in exit code 1
    python -m tests.docs_site serve     # build it, and show it on 127.0.0.1

Pages are the repository's files. Only their links change: what leads to another page of the site does so
there, and what leads to any other file leads to it at the code host.
"""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
CONFIG = DOCS / "zensical.toml"
BUILD = ROOT / "build/docs"
PORT = 8190
ELSEWHERE = {
    "changelog.md": "CHANGELOG.md",
    "dashboards.md": "deploy/grafana/README.md",
    "decisions/index.md": "docs/decisions/README.md",
    "index.md": "docs/README.md",
    "security.md": "SECURITY.md",
}
"""Pages of the site that have another place in the repository, or another name there."""
DECISIONS = "decisions/index.md"
_CODE = re.compile(r"(?ms)^ *```.*?^ *```$|^    .*?$|`[^`\n]*`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")


class BrokenSite(Exception):
    """What is wrong with the pages, a line each."""


def pages() -> dict[str, Path]:
    """Every page of the site, with the file that it is made of."""
    found = {name: ROOT / path for name, path in ELSEWHERE.items()}
    named = set(found.values())
    inside = {p.relative_to(DOCS).as_posix(): p for p in sorted(DOCS.rglob("*.md")) if p not in named}
    return found | inside


def with_links_of_the_site(page: str, source: Path, site: Mapping[Path, str], repository: str) -> str:
    """The text of a page, as it stands on the site. Raises BrokenSite: a link leads to no file."""
    text = source.read_text(encoding="utf-8")
    wrong: list[str] = []

    def link(match: re.Match[str]) -> str:
        target, hash_, anchor = match[1].partition("#")
        if not target or ":" in target:
            return match[0]
        path = (source.parent / target).resolve()
        if not path.exists():
            wrong.append(f"{source.relative_to(ROOT)}: {match[1]} leads nowhere")
        return f"]({_address(page, path, site, repository)}{hash_}{anchor})"

    parts, at = [], 0
    for code in _CODE.finditer(text):
        parts += [_LINK.sub(link, text[at : code.start()]), code[0]]
        at = code.end()
    parts.append(_LINK.sub(link, text[at:]))
    if wrong:
        raise BrokenSite("\n".join(wrong))
    return "".join(parts)


def _address(page: str, path: Path, site: Mapping[Path, str], repository: str) -> str:
    """From the page to that file."""
    named = site.get(path / "README.md" if path.is_dir() else path)
    if named is None and path.is_relative_to(DOCS) and path.is_file():
        named = path.relative_to(DOCS).as_posix()
    if named is None:
        kind = "tree" if path.is_dir() else "blob"
        return f"{repository}/{kind}/main/{path.relative_to(ROOT).as_posix()}"
    return os.path.relpath(named, Path(page).parent).replace(os.sep, "/")


def stage(folder: Path) -> None:
    """Write what Zensical reads into the folder. Raises BrokenSite: what is wrong, every fault at once."""
    shutil.rmtree(folder, ignore_errors=True)
    text = CONFIG.read_text(encoding="utf-8")
    repository = tomllib.loads(text)["project"]["extra"]["repository"]
    made = pages()
    site = {path.resolve(): name for name, path in made.items()}
    wrong: list[str] = []
    for name, source in made.items():
        target = folder / "docs" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            target.write_text(with_links_of_the_site(name, source, site, repository), encoding="utf-8")
        except BrokenSite as error:
            wrong.append(str(error))
    for path in DOCS.rglob("*"):
        if path.is_file() and path.suffix != ".md" and path != CONFIG:
            target = folder / "docs" / path.relative_to(DOCS)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    decisions = sorted(name for name in made if name.startswith("decisions/") and name != DECISIONS)
    with (folder / "docs" / DECISIONS).open("a", encoding="utf-8") as index:
        index.writelines(f"- [{_head(made[one])[0]}]({Path(one).name})\n" for one in decisions)
    text = text.replace(f'"{DECISIONS}"', ", ".join(f'"{name}"' for name in [DECISIONS, *decisions]))
    (folder / CONFIG.name).write_text(text, encoding="utf-8")
    listed = list(in_navigation(tomllib.loads(text)["project"]["nav"]))
    wrong += [
        f"{name} is in no section of the navigation ({CONFIG.name})" for name in made if name not in listed
    ]
    wrong += [f"{name} is in the navigation, and no page" for name in listed if name not in made]
    if wrong:
        raise BrokenSite("\n".join(wrong))


def in_navigation(nav: Any) -> Iterator[str]:
    """The pages of a navigation, in its order."""
    match nav:
        case str():
            yield nav
        case list():
            for one in nav:
                yield from in_navigation(one)
        case dict():
            for one in nav.values():
                yield from in_navigation(one)


def render(folder: Path) -> Path:
    """The site's folder, made of what was staged. Raises BrokenSite: Zensical's findings, all of them."""
    done = subprocess.run(
        [
            Path(sys.executable).with_name("zensical"),
            "build",
            "--strict",
            "--config-file",
            folder / CONFIG.name,
        ],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        # It colours what it says, and ends with a traceback.
        raise BrokenSite(re.sub(r"\x1b\[[\d;]*m", "", done.stdout + done.stderr.partition("Traceback")[0]))
    config = tomllib.loads((folder / CONFIG.name).read_text(encoding="utf-8"))["project"]
    site: Path = folder / config["site_dir"]
    for name in in_navigation(config["nav"]):
        # For programs: what llms.txt leads to.
        shutil.copyfile(folder / "docs" / name, site / name)
    (site / "llms.txt").write_text(llms(config, folder / "docs"), encoding="utf-8")
    (site / "llms-full.txt").write_text(llms_full(config, folder / "docs"), encoding="utf-8")
    return site


def llms(config: Mapping[str, Any], docs: Path) -> str:
    """llms.txt: the site by its sections, each page with its title and its first sentence."""
    lines = [f"# {config['site_name']}", "", f"> {config['site_description']}", ""]
    for section in config["nav"]:
        [(title, names)] = section.items() if isinstance(section, dict) else [("Home", [section])]
        lines += [f"## {title}", ""]
        for name in in_navigation(names):
            heading, first = _head(docs / name)
            lines.append(f"- [{heading}]({name}): {first}")
        lines.append("")
    return "\n".join(lines)


def llms_full(config: Mapping[str, Any], docs: Path) -> str:
    """Every page in the navigation's order, decisions left out."""
    names = (name for name in in_navigation(config["nav"]) if not name.startswith("decisions/"))
    return "\n\n".join((docs / name).read_text(encoding="utf-8").strip() for name in names) + "\n"


def _head(page: Path) -> tuple[str, str]:
    """The title of a page, and its first sentence without markup."""
    title, _, rest = page.read_text(encoding="utf-8").partition("\n")
    paragraph = next((p for p in rest.split("\n\n") if re.match(r"[\w*`\[\"]", p.strip())), "")
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|[*`]", r"\1", " ".join(paragraph.split()))
    return title.removeprefix("# "), re.split(r"(?<=\.) (?=[A-Z])", plain)[0]


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@contextmanager
def serving(site: Path, port: int = 0) -> Iterator[str]:
    """The address at which the site is shown, on this machine alone."""
    server = ThreadingHTTPServer(("127.0.0.1", port), partial(_Files, directory=str(site)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def main() -> None:
    try:
        stage(BUILD)
        site = render(BUILD)
    except BrokenSite as error:
        sys.exit(str(error))
    print(site.relative_to(ROOT))
    if "serve" in sys.argv[1:]:
        with serving(site, PORT) as address, suppress(KeyboardInterrupt):
            print(f"{address} (Ctrl-C ends it)", flush=True)
            Event().wait()


if __name__ == "__main__":
    main()
