"""Ports are picked once and kept."""

import socket
from pathlib import Path

from spendmeter_local.ports import CANDIDATES, LOOPBACK, free_port, is_free, keep_ports


def test_a_stack_keeps_its_ports(tmp_path: Path) -> None:
    first = keep_ports(tmp_path / "ports.json", ["kafka", "proxy"])
    assert keep_ports(tmp_path / "ports.json", ["kafka", "proxy"]) == first
    assert len(set(first.values())) == 2


def test_a_port_that_somebody_took_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    first = keep_ports(tmp_path / "ports.json", ["kafka", "proxy"])
    with socket.create_server((LOOPBACK, first["kafka"])):
        second = keep_ports(tmp_path / "ports.json", ["kafka", "proxy"])
    assert second["kafka"] not in first.values()
    assert second["proxy"] == first["proxy"]


def test_a_name_that_is_new_gets_a_port_of_its_own(tmp_path: Path) -> None:
    first = keep_ports(tmp_path / "ports.json", ["kafka"])
    second = keep_ports(tmp_path / "ports.json", ["kafka", "proxy"])
    assert second["kafka"] == first["kafka"] != second["proxy"]


def test_a_spoiled_file_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "ports.json").write_text('{"kafka": ')
    assert keep_ports(tmp_path / "ports.json", ["kafka"])["kafka"] in CANDIDATES


def test_a_listener_makes_a_port_taken() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server((LOOPBACK, port)):
        assert not is_free(port)
