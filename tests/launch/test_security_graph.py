"""The permissions against the truth: the real nodes, and what the middleware says that they opened."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="reads the graph of real nodes")

from sealegs.episode_client import EpisodeClient
from sealegs.faults.live.bundles import ROBOT_NAME, TASK_NAME, circling_bundle, configuration
from sealegs.faults.live.nodes import Client, Nodes, isolated
from sealegs.security.certificates import Validity
from sealegs.security.documents import permissions_xml, read_permissions
from sealegs.security.graph import EVERY_NODE, Access, PolicyInputs, graph
from sealegs_contract.robot import load_robot
from sealegs_deploy.bundle import load_bundle
from sealegs_sim.tasks import get_task

ROBOT = load_robot(ROBOT_NAME)


def opened(client: Client, name: str, namespace: str) -> Access:
    """What the middleware knows of a node: publishers, subscriptions, services and clients, by absolute name."""
    queries = (
        client.node.get_publisher_names_and_types_by_node,
        client.node.get_subscriber_names_and_types_by_node,
        client.node.get_service_names_and_types_by_node,
        client.node.get_client_names_and_types_by_node,
    )
    return Access(*(frozenset(found for found, _ in query(name, namespace)) for query in queries))


def opened_in_dds(client: Client, name: str, namespace: str) -> tuple[set[str], set[str]]:
    """Names of the DDS topics that a node writes and reads, as the middleware has them."""
    queries = (client.node.get_publisher_names_and_types_by_node, client.node.get_subscriber_names_and_types_by_node)
    writes, reads = ({found for found, _ in query(name, namespace, no_demangle=True)} for query in queries)
    return writes, reads


def wait_for(client: Client, name: str, namespace: str, wanted: Callable[[Access], bool]) -> Access:
    """The node's graph once it is as wanted, or as it is after a while."""

    def known() -> bool:
        return (name, namespace) in client.node.get_node_names_and_namespaces()

    client.spin_until(known, 30.0, f"node {name}")
    client.within(30.0, lambda: wanted(opened(client, name, namespace)))
    return opened(client, name, namespace)


def test_each_node_may_do_exactly_what_it_does(tmp_path: Path) -> None:
    with isolated(configuration()):
        bundle = circling_bundle()
        observation = load_bundle(bundle).manifest.observation
        inputs = PolicyInputs(tuple({field.object_name for field in observation.fields if field.object_name}))
        buttons = ("e_stop", "/wall/e_stop")
        allowed = graph(ROBOT, inputs, "/left", e_stop_topics=buttons)
        assert {"/left/e_stop", "/wall/e_stop"} <= allowed["/left/operator"].publish
        pressed = {"e_stop_topics": f"[{', '.join(buttons)}]"}
        given = ("-r", "__ns:=/left")
        with Client("reader") as client, Nodes(tmp_path) as nodes:
            common = {"robot": ROBOT_NAME, "use_sim_time": True}
            nodes.start("robot_node", *given, task=TASK_NAME, **common, **pressed)
            nodes.start("recorder_node", *given, bag_dir=tmp_path / "bags", **common)
            nodes.start("policy_node", *given, policy_path=bundle, autostart=True, **common, **pressed)
            for name in ("robot_node", "recorder_node", "policy_node"):
                wanted = allowed[f"/left/{name}"]
                found = wait_for(client, name, "/left", wanted.__eq__)
                logs = [node.log for node in nodes.running]
                assert found == wanted, f"{name}: {logs}"
                assert opened_in_dds(client, name, "/left") == (wanted.dds_publish, wanted.dds_subscribe)


def test_our_client_may_do_what_it_does_and_command_only_if_told(tmp_path: Path) -> None:
    allowed = graph(ROBOT, PolicyInputs(), teleoperation=True)["/operator"]
    unarmed = graph(ROBOT, PolicyInputs())["/operator"]
    assert allowed.publish - unarmed.publish == {"/joint_trajectory"}
    with isolated(tmp_path), Client("reader") as client:
        import rclpy

        rclpy.init()
        try:
            mine = EpisodeClient(ROBOT, get_task(TASK_NAME), ROBOT.cameras[0].name)
            published = set(EVERY_NODE)
            found = wait_for(
                client,
                "episode_client",
                "/",
                lambda seen: bool(seen.serve and seen.subscribe and seen.publish == published),
            )
            mine.close()
        finally:
            rclpy.try_shutdown()
    assert found.publish == published == unarmed.publish - {"/e_stop"}
    assert found.subscribe <= unarmed.subscribe
    granted = read_permissions(permissions_xml("/operator", unarmed, 0, Validity.days_from_now(1)))
    assert all(
        granted.may_subscribe(f"rq{name}Request") and granted.may_publish(f"rr{name}Reply") for name in found.serve
    )
    assert not granted.may_publish("rt/joint_trajectory")
