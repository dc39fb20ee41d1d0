"""`python -m tests.versions.stack --dir DIR`: tests/faults's, its broker and engine to be upgraded.

`DIR/releases.json` says which releases their next starts are of.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from spendmeter.files.text import write_atomically
from spendmeter.runtime.endpoints import StackDir
from spendmeter_local.stack.components import Declaration, StackComponent
from spendmeter_local.stack.supervisor import Supervisor
from tests.faults.stack import Layout, declare_with_faults
from tests.versions.releases import ENGINES, KAFKAS

WORKERS, GATEWAYS = 1, 2


@dataclass(frozen=True)
class Releases:
    """Which releases run, by their versions."""

    kafka: str
    clickhouse: str

    def write(self, stack: StackDir) -> None:
        """What starts from now on is of these."""
        write_atomically(_file(stack), json.dumps(asdict(self)))


def declare_upgradable(stack: StackDir) -> Declaration:
    """The whole stack; broker and engine look at each start which releases they are."""
    declared = declare_with_faults(stack, workers=WORKERS, gateways=GATEWAYS)
    layout = Layout.of(stack, GATEWAYS)
    (broker,) = layout.brokers()

    def kafka() -> list[str]:
        release = next(one for one in KAFKAS if one.version == _read(stack).kafka)
        upgraded = replace(broker, release=release)
        upgraded.prepare()
        return upgraded.command()

    def clickhouse() -> list[str]:
        release = next(one for one in ENGINES if one.version == _read(stack).clickhouse)
        env = release.env(stack.clickhouse_password())
        path = [f"PYTHONPATH={env['PYTHONPATH']}"] if "PYTHONPATH" in env else []
        port = layout.ports["clickhouse"]
        return ["/usr/bin/env", *path, *release.command(stack.data("clickhouse"), port)]

    commands = {"kafka": kafka, "clickhouse": clickhouse}
    stages = [
        [
            replace(one, command=commands[one.name])
            if isinstance(one, StackComponent) and one.name in commands
            else one
            for one in stage
        ]
        for stage in declared.stages
    ]
    return replace(declared, stages=stages)


def _file(stack: StackDir) -> Path:
    return stack.path / "releases.json"


def _read(stack: StackDir) -> Releases:
    return Releases(**json.loads(_file(stack).read_text()))


@click.command()
@click.option("--dir", "directory", type=click.Path(path_type=Path), required=True)
def main(directory: Path) -> None:
    """Run the stack in the foreground until SIGTERM."""
    stack = StackDir(directory.absolute())
    raise SystemExit(Supervisor(stack, declare_upgradable(stack), lambda line: print(line, flush=True)).run())


if __name__ == "__main__":
    main()
