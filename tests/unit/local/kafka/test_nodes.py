"""One node, or a cluster: what each is told, and that a directory's data stays of as many as it was."""

from pathlib import Path

import pytest

from spendmeter.runtime.endpoints import StackDir
from spendmeter_local.kafka.broker import (
    Broker,
    WrongNodesError,
    brokers,
    kept_nodes,
    node_names,
    server_properties,
)
from spendmeter_local.stack.components import declare

NODES = 3


def ports(nodes: int) -> dict[str, int]:
    names = [port for name in node_names(nodes) for port in (name, f"{name}-controller")]
    return {name: 21_000 + number for number, name in enumerate(names)}


def properties(broker: Broker) -> dict[str, str]:
    lines = [line for line in server_properties(broker).splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_a_lone_node_asks_nobody(tmp_path: Path) -> None:
    (alone,) = brokers(StackDir(tmp_path), 1, ports(1))
    said = properties(alone)
    assert said["controller.quorum.voters"] == "1@127.0.0.1:21001"
    assert {said["default.replication.factor"], said["min.insync.replicas"]} == {"1"}
    assert alone.data_dir == tmp_path / "kafka"


def test_of_three_nodes_each_record_is_on_all_and_counts_on_two(tmp_path: Path) -> None:
    made = brokers(StackDir(tmp_path), NODES, ports(NODES))
    said = [properties(broker) for broker in made]
    for replication in (
        "default.replication.factor",
        "offsets.topic.replication.factor",
        "transaction.state.log.replication.factor",
        "share.coordinator.state.topic.replication.factor",
    ):
        assert {one[replication] for one in said} == {"3"}
    assert {one["min.insync.replicas"] for one in said} == {"2"}
    assert {one["transaction.state.log.min.isr"] for one in said} == {"2"}
    assert [one["node.id"] for one in said] == ["1", "2", "3"]
    assert len({one["controller.quorum.voters"] for one in said}) == 1
    assert said[0]["controller.quorum.voters"].count("@") == NODES
    assert len({broker.data_dir for broker in made}) == NODES


def test_all_nodes_are_of_one_cluster_at_every_start(tmp_path: Path) -> None:
    first, again = (brokers(StackDir(tmp_path), NODES, ports(NODES)) for _ in range(2))
    assert {broker.cluster.id for broker in (*first, *again) if broker.cluster} == {first[0].cluster.id}  # type: ignore[union-attr]


@pytest.mark.parametrize(("before", "asked"), [(1, 3), (3, 1)])
def test_data_of_another_number_of_nodes_is_not_begun_anew_beside(
    tmp_path: Path, before: int, asked: int
) -> None:
    stack = StackDir(tmp_path)
    for broker in brokers(stack, before, ports(before)):
        broker.data_dir.mkdir(parents=True)
    assert kept_nodes(stack) == before
    with pytest.raises(WrongNodesError, match=f"belongs to {before} Kafka node.* --brokers {before}"):
        declare(stack, nodes=asked)
    assert not stack.ports.exists(), "nothing was begun"


@pytest.mark.parametrize("nodes", [1, 3])
def test_a_stack_has_as_many_nodes_as_before_without_being_told(tmp_path: Path, nodes: int) -> None:
    stack = StackDir(tmp_path)
    first = declare(stack, nodes=nodes)
    stack.data(node_names(nodes)[0]).mkdir(exist_ok=True)
    again = declare(stack)
    assert again.kafka_bootstrap == first.kafka_bootstrap
    assert len(again.kafka_bootstrap.split(",")) == nodes
    started = [component.name for component in again.components if component.name.startswith("kafka")]
    assert started == node_names(nodes)
    (step,) = [item for stage in again.stages for item in stage if item.name == "topics"]
    assert step.env["SPENDMETER_REPLICATION"] == str(nodes)


def test_the_page_is_part_of_the_stack_and_for_this_machine_alone(tmp_path: Path) -> None:
    declared = declare(StackDir(tmp_path))
    [page] = [one for one in declared.components if one.name == "web"]

    assert page.env["SPENDMETER_WEB_HOST"] == "127.0.0.1"
    assert declared.web_url == f"http://127.0.0.1:{page.env['SPENDMETER_WEB_PORT']}"
    others = {one.metrics_url for one in declared.components if one.metrics_url} - {page.metrics_url}
    assert set(page.env["SPENDMETER_WEB_METRICS_URLS"].split(",")) == others
