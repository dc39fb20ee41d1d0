"""deploy/compose: what Compose makes of it, held to the images and to the settings of each process."""

import json
import os
import re
import shutil
import stat
from hashlib import sha256
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from spendmeter_console.access.people import read_people
from spendmeter_sinks.alerts.file import read_routes
from tests.deployment import (
    DEPLOY,
    SETTINGS,
    compose,
    initialised,
    load_settings,
    run_tool,
    unknown_settings,
)
from tests.promtool import find_promtool

FOLDER = DEPLOY / "compose"
SECRETS = re.compile(r"^([A-Z_]+)=$", re.MULTILINE)
ONE_SHOT = {"topics", "users", "schema", "cli"}

Services = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    folder = initialised(tmp_path_factory.mktemp("compose"))
    said = compose("--profile", "*", "config", "--format", "json", cwd=folder)
    assert (said.returncode, said.stderr) == (0, "")
    found: Services = json.loads(said.stdout)["services"]
    return found


def target(service: dict[str, Any]) -> str | None:
    found: str | None = service.get("build", {}).get("target")
    return found


def test_each_process_of_ours_is_a_service(services: Services) -> None:
    assert {target(service) for service in services.values()} == {*SETTINGS, None}


def test_each_of_our_variables_is_a_setting_of_its_process_and_can_be_used(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, service in services.items():
        process = target(service)
        if process is None:
            assert [one for one in service.get("environment", {}) if one.startswith("SPENDMETER_")] == []
            continue
        assert (name, unknown_settings(process, [*service["environment"]])) == (name, set())
        with monkeypatch.context() as patched:
            patched.setenv("SPENDMETER_WEB_PEOPLE_FILE", "people.yaml")
            made = load_settings(process, service["environment"], patched)
        assert made.kafka_bootstrap == "kafka:9092"


def test_a_process_of_ours_may_write_nowhere_but_in_tmp_and_in_volumes(services: Services) -> None:
    ours = [service for service in services.values() if target(service)]

    assert all(one["read_only"] and one["cap_drop"] == ["ALL"] for one in ours)
    assert all(one["security_opt"] == ["no-new-privileges:true"] for one in ours)
    mounted = [volume for one in ours for volume in one.get("volumes", ())]
    assert {one["source"] for one in mounted if not one.get("read_only")} == {"outbox"}


def test_everything_has_a_bound_and_a_way_to_say_that_it_is_well(services: Services) -> None:
    for name, service in services.items():
        limits = service["deploy"]["resources"]["limits"]
        assert (name, {*limits}) == (name, {"cpus", "memory"})
        assert service["logging"]["options"]["max-size"]
        assert (name, "healthcheck" in service) == (name, name not in ONE_SHOT)
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped")


def test_whoever_is_waited_for_can_be(services: Services) -> None:
    for service in services.values():
        for other, how in service.get("depends_on", {}).items():
            ended = how["condition"] == "service_completed_successfully"
            assert (other, ended) == (other, other in ONE_SHOT)
            assert ended or "healthcheck" in services[other]


def test_only_loopback_is_listened_on_and_servers_have_no_way_out(services: Services) -> None:
    published = [port for service in services.values() for port in service.get("ports", ())]

    assert {port["host_ip"] for port in published} == {"127.0.0.1"}
    assert [
        name for name in ("kafka", "clickhouse", "postgres") if [*services[name]["networks"]] != ["back"]
    ] == []
    assert {
        name for name in services if "ports" in services[name] and "front" not in services[name]["networks"]
    } == set()


def test_each_file_that_is_mounted_is_there(tmp_path: Path) -> None:
    folder = initialised(tmp_path)
    file = yaml.safe_load((folder / "compose.yaml").read_text())

    mounted = [
        volume.partition(":")[0]
        for service in file["services"].values()
        for volume in service.get("volumes", ())
    ]

    named = {*file["volumes"]}
    assert [one for one in mounted if one not in named and not (folder / one).exists()] == []
    assert named <= {*mounted}


def test_nothing_is_mounted_over_something_else() -> None:
    """Docker refuses two mounts at one path, and cannot make a path inside what may only be read."""
    for name, service in yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].items():
        mounts = [one.split(":") for one in service.get("volumes", ())]
        assert len({target for _, target, *_ in mounts}) == len(mounts), name
        for (_, target, *_), (_, other, *how) in permutations(mounts, 2):
            assert how != ["ro"] or Path(other) not in Path(target).parents, name


def test_init_makes_each_secret_once_and_what_people_need(tmp_path: Path) -> None:
    folder = initialised(tmp_path)
    made = {name: (folder / name).read_text() for name in (".env", "people.yaml", "alerts.yaml")}
    wanted = SECRETS.findall((folder / ".env.example").read_text())
    env = dict(re.findall(r"(?m)^([A-Z_]+)=(.*)$", made[".env"]))

    assert len({env[name] for name in wanted}) == len(wanted) > 10
    assert min(len(env[name]) for name in wanted if name != "KAFKA_CLUSTER_ID") >= 50
    assert stat.S_IMODE((folder / ".env").stat().st_mode) == 0o600
    assert [person.name for person in read_people(made["people.yaml"], "people.yaml")] == ["admin"]
    assert read_routes(made["alerts.yaml"], "alerts.yaml", None)

    again = run_tool("bash", "init.sh", cwd=folder)

    assert (again.returncode, again.stdout) == (0, "")
    assert {name: (folder / name).read_text() for name in made} == made


def test_the_token_that_init_shows_is_that_of_the_file(tmp_path: Path) -> None:
    folder = initialised(tmp_path)
    (folder / "people.yaml").unlink()

    token = run_tool("bash", "init.sh", cwd=folder).stdout.split()[-1]

    [person] = read_people((folder / "people.yaml").read_text(), "people.yaml")
    assert person.token_hash == sha256(token.encode()).hexdigest()


def test_init_adds_a_setting_that_an_upgrade_brings_and_keeps_the_rest(tmp_path: Path) -> None:
    folder = initialised(tmp_path)
    before = (folder / ".env").read_text() + "OPENAI_API_KEY=sk-mine\n"
    # As an editor may leave it.
    (folder / ".env").write_text(before.removesuffix("\n"))
    with (folder / ".env.example").open("a") as file:
        file.write("NEW_SECRET=\nNEW_NUMBER=7\n")

    run_tool("bash", "init.sh", cwd=folder)

    after = (folder / ".env").read_text()
    assert after.startswith(before)
    assert re.fullmatch(r"NEW_SECRET=[0-9a-f]{64}\nNEW_NUMBER=7\n", after.removeprefix(before))


def test_without_its_secrets_nothing_starts_and_the_message_names_the_fix(tmp_path: Path) -> None:
    folder = initialised(tmp_path)
    env = {"PATH": os.environ["PATH"]}
    (folder / ".env").write_text("")

    said = compose("config", "--quiet", cwd=folder, env=env)

    assert said.returncode != 0
    assert "run ./init.sh" in said.stderr


def test_each_user_of_clickhouse_gets_its_password_whatever_is_in_it(tmp_path: Path) -> None:
    users = re.findall(
        r"(?m)^CREATE USER IF NOT EXISTS spend_(\w+)", (DEPLOY / "clickhouse/users.sql").read_text()
    )
    assert len(users) > 5
    # What would be run is written down; ClickHouse's own client is not there.
    (tmp_path / "clickhouse-client").write_text('#!/bin/sh\ncat >"$OUT"\n')
    (tmp_path / "clickhouse-client").chmod(0o755)
    odd = r"a'b\c&d $e"
    env = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "OUT": str(tmp_path / "out.sql"),
        "CLICKHOUSE_HOST": "clickhouse",
        "CLICKHOUSE_PASSWORD": "x",
        **{f"PASSWORD_OF_{user.upper()}": f"{user} {odd}" for user in users},
    }

    said = run_tool("bash", str(FOLDER / "users.sh"), str(DEPLOY / "clickhouse/users.sql"), env=env)

    assert (said.returncode, said.stderr) == (0, "")
    sql = (tmp_path / "out.sql").read_text()
    plain = (DEPLOY / "clickhouse/users.sql").read_text()
    again = ""
    for user in users:
        escaped = f"{user} {odd}".replace("\\", "\\\\").replace("'", "\\'")
        identified = "IDENTIFIED WITH sha256_password BY"
        marked = f"CREATE USER IF NOT EXISTS spend_{user} {identified} 'CHANGE-ME'"
        plain = plain.replace(marked, marked.replace("CHANGE-ME", escaped))
        # For those that are there, whose password has changed.
        again += f"ALTER USER spend_{user} {identified} '{escaped}';\n"
    assert sql.split() == (plain + again).split()

    del env["PASSWORD_OF_SINK"]
    (tmp_path / "out.sql").unlink()
    said = run_tool("bash", str(FOLDER / "users.sh"), str(DEPLOY / "clickhouse/users.sql"), env=env)
    assert said.returncode != 0
    assert not (tmp_path / "out.sql").exists()


def test_compose_has_a_password_for_each_user_of_clickhouse(services: Services) -> None:
    users = re.findall(
        r"(?m)^CREATE USER IF NOT EXISTS spend_(\w+)", (DEPLOY / "clickhouse/users.sql").read_text()
    )

    given = {name for name in services["users"]["environment"] if name.startswith("PASSWORD_OF_")}
    assert given >= {f"PASSWORD_OF_{user.upper()}" for user in users}
    for service in services.values():
        named = service.get("environment", {}).get("SPENDMETER_CLICKHOUSE_USER", "spend_sink")
        assert named.removeprefix("spend_") in users


def test_scripts_are_bash_that_parses() -> None:
    for script in FOLDER.glob("*.sh"):
        assert run_tool("bash", "-n", str(script)).returncode == 0
        assert os.access(script, os.X_OK)


def test_prometheus_and_its_alertmanager_accept_their_files(tmp_path: Path) -> None:
    # Beside each other, as they are mounted.
    for file in (FOLDER / "prometheus.yaml", DEPLOY / "prometheus/rules.yaml"):
        shutil.copy(file, tmp_path)

    said = run_tool(str(find_promtool()), "check", "config", str(tmp_path / "prometheus.yaml"))

    assert said.returncode == 0, said.stdout + said.stderr
    assert "rules found" in said.stdout
    configured = yaml.safe_load((FOLDER / "alertmanager.yaml").read_text())
    assert configured["route"]["receiver"] in {one["name"] for one in configured["receivers"]}


def test_grafana_has_what_its_data_sources_and_dashboards_ask_for(services: Services) -> None:
    grafana = services["grafana"]
    mounts = {one["target"]: Path(one["source"]) for one in grafana["volumes"] if one["type"] == "bind"}

    asked = {
        name
        for file in (DEPLOY / "grafana/provisioning").rglob("*.yaml")
        for name in re.findall(r"\$([A-Z_]+)", file.read_text())
    }
    assert asked <= {*grafana["environment"]}
    [provider] = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/spendmeter.yaml").read_text())[
        "providers"
    ]
    shown = mounts[provider["options"]["path"]]
    assert {path.name for path in shown.glob("*.json")} == {
        path.name for path in (DEPLOY / "grafana/dashboards").glob("*.json")
    }


def test_prometheus_reads_each_process_that_has_metrics(services: Services) -> None:
    read = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())["scrape_configs"]
    names = {name for one in read for found in one.get("dns_sd_configs", ()) for name in found["names"]}

    assert names == {name for name, service in services.items() if target(service) not in (None, "tools")}
    assert {found["port"] for one in read for found in one.get("dns_sd_configs", ())} == {9464}
    expected = re.findall(r"job_name: (\S+)", (DEPLOY / "prometheus/prometheus.yaml").read_text())
    assert {one["job_name"] for one in read} == {"prometheus", *expected}


def test_what_needs_a_key_is_off_by_default(tmp_path: Path) -> None:
    folder = initialised(tmp_path)

    def on() -> set[str]:
        return {*compose("config", "--services", cwd=folder).stdout.split()}

    assert "canary" not in on()
    with (folder / ".env").open("a") as file:
        file.write("COMPOSE_PROFILES=canary\n")
    assert "canary" in on()
