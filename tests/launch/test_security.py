"""Keystores: what is written is what OpenSSL and the DDS Security documents want, and every change is refused."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sealegs.cli import main
from sealegs.security.certificates import Validity, make_certificate, new_key, read_certificate, read_key
from sealegs.security.check import check_keystore
from sealegs.security.documents import governance_xml, permissions_xml, read_governance, read_permissions
from sealegs.security.graph import PolicyInputs, graph
from sealegs.security.keystore import Settings, write_keystore
from sealegs.security.signing import sign
from sealegs_contract.errors import SecurityError
from sealegs_contract.robot import load_robot

ROBOT = load_robot("so101")
INPUTS = PolicyInputs(("cube",), ("front",))
NODES = {"/robot_node", "/policy_node", "/recorder_node", "/operator"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("security") / "keystore"
    write_keystore(path, graph(ROBOT, INPUTS), Settings(domain=7))
    return path


@pytest.fixture
def keystore(written: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(written, tmp_path / "keystore", symlinks=True))


def real_files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def replace_signed(keystore: Path, name: str, content: bytes) -> None:
    """Put `content` in place of a document, signed by the keystore's own CA."""
    ca = read_certificate((keystore / "public/ca.cert.pem").read_bytes())
    key = read_key((keystore / "private/ca.key.pem").read_bytes())
    (keystore / f"{name}.xml").write_bytes(content)
    (keystore / f"{name}.p7s").write_bytes(sign(content, ca, key))


def test_a_new_keystore_is_sound(written: Path) -> None:
    report = check_keystore(written)
    assert report.problems == []
    assert set(report.permissions) == NODES
    assert report.commanders == ["/policy_node"]
    assert all(granted.domains == {7} for granted in report.permissions.values())
    for file in real_files(written):
        wanted = 0o600 if file.name.endswith("key.pem") else 0o644
        assert stat.S_IMODE(file.stat().st_mode) == wanted
    assert stat.S_IMODE(written.stat().st_mode) == stat.S_IMODE((written / "private").stat().st_mode) == 0o700


@pytest.mark.skipif(shutil.which("openssl") is None, reason="compares with the openssl command")
def test_openssl_agrees(written: Path) -> None:
    def openssl(*words: str) -> str:
        done = subprocess.run(["openssl", *words], cwd=written, capture_output=True, text=True, check=True)
        return done.stdout

    for enclave in NODES:
        folder = f"enclaves{enclave}"
        openssl("verify", "-CAfile", f"{folder}/identity_ca.cert.pem", f"{folder}/cert.pem")
        subject = openssl("x509", "-in", f"{folder}/cert.pem", "-noout", "-subject", "-nameopt", "RFC2253")
        assert subject.strip() == f"subject=CN={enclave}"
        for name in ("permissions", "governance"):
            authority = f"{folder}/permissions_ca.cert.pem"
            text = openssl("smime", "-verify", "-text", "-in", f"{folder}/{name}.p7s", "-CAfile", authority)
            path = written / (folder if name == "permissions" else "enclaves") / f"{name}.xml"
            assert text.replace("\r\n", "\n") == path.read_text()


def test_least_privilege_by_hand(written: Path) -> None:
    granted = check_keystore(written).permissions
    policy = granted["/policy_node"]
    assert {name for name in policy.publish if name.startswith("rt/")} == {
        "rt/joint_trajectory", "rt/policy_node/status", "rt/policy_node/transition_event", "rt/diagnostics",
        "rt/rosout", "rt/parameter_events", "rt/shadow/joint_trajectory", "rt/policy_node/shadow",
    }  # fmt: skip
    assert {name for name in policy.subscribe if name.startswith("rt/")} == {
        "rt/joint_states", "rt/objects/cube/pose", "rt/camera/front/image_raw/compressed", "rt/clock",
        "rt/e_stop", "rt/robot_node/status",
    }  # fmt: skip
    assert policy.may_publish("rr/policy_node/e_stopReply")
    assert policy.may_subscribe("rq/policy_node/e_stopRequest")
    assert not policy.may_publish("rq/robot_node/resetRequest")
    assert not granted["/recorder_node"].may_publish("rt/joint_trajectory")
    assert not granted["/robot_node"].may_subscribe("rt/camera/front/image_raw/compressed")
    operator = granted["/operator"]
    assert operator.may_publish("rq/policy_node/armRequest")
    assert operator.may_subscribe("rr/policy_node/armReply")
    assert [enclave for enclave, may in granted.items() if may.may_publish("rt/e_stop")] == ["/operator"]
    assert operator.may_publish("rr/_ros2cli_4711/get_type_descriptionReply")


def test_every_changed_byte_is_refused(keystore: Path) -> None:
    rng = np.random.default_rng(0)
    files = real_files(keystore)
    assert len(files) == 4 + 4 * len(NODES)
    for file in files:
        whole = file.read_bytes()
        for place in rng.integers(len(whole), size=4):
            changed = bytearray(whole)
            changed[place] ^= 1 << int(rng.integers(8))
            file.write_bytes(changed)
            assert check_keystore(keystore).problems, f"{file}: byte {place}"
        file.write_bytes(whole)
    assert check_keystore(keystore).problems == []


def _exposed_key(path: Path) -> None:
    (path / "enclaves/robot_node/key.pem").chmod(0o640)


def _swapped(path: Path) -> None:
    for name in ("permissions.xml", "permissions.p7s"):
        shutil.copy(path / "enclaves/policy_node" / name, path / "enclaves/recorder_node" / name)


def _foreign_key(path: Path) -> None:
    shutil.copy(path / "enclaves/policy_node/key.pem", path / "enclaves/recorder_node/key.pem")


def _link_out(path: Path) -> None:
    shutil.copy(path / "public/ca.cert.pem", path.parent / "outside.pem")
    (path / "enclaves/operator/identity_ca.cert.pem").unlink()
    (path / "enclaves/operator/identity_ca.cert.pem").symlink_to(path.parent / "outside.pem")


def _node_as_ca(path: Path) -> None:
    """The policy's own certificate vouches for a wider grant."""
    folder = path / "enclaves/policy_node"
    certificate, key = read_certificate((folder / "cert.pem").read_bytes()), read_key((folder / "key.pem").read_bytes())
    content = (path / "enclaves/operator/permissions.xml").read_bytes().replace(b"/operator", b"/policy_node")
    (folder / "permissions.xml").write_bytes(content)
    (folder / "permissions.p7s").write_bytes(sign(content, certificate, key))


def _foreign_certificate(path: Path) -> None:
    """A certificate in the enclave's name, of another CA."""
    key, validity = new_key(), Validity.days_from_now(1)
    from sealegs.security.certificates import certificate_pem, key_pem

    folder = path / "enclaves/operator"
    (folder / "cert.pem").write_bytes(certificate_pem(make_certificate("/operator", key, new_key(), validity)))
    (folder / "key.pem").write_bytes(key_pem(key))


def _open_governance(path: Path) -> None:
    content = (path / "enclaves/governance.xml").read_bytes()
    replace_signed(path, "enclaves/governance", content.replace(b"access_control>true", b"access_control>false"))


def _wildcard(path: Path) -> None:
    content = (path / "enclaves/policy_node/permissions.xml").read_bytes()
    replace_signed(path, "enclaves/policy_node/permissions", content.replace(b"rt/diagnostics", b"rt/*"))


def _allow_by_default(path: Path) -> None:
    content = (path / "enclaves/policy_node/permissions.xml").read_bytes()
    replace_signed(path, "enclaves/policy_node/permissions", content.replace(b">DENY<", b">ALLOW<"))


def _other_domain(path: Path) -> None:
    content = (path / "enclaves/policy_node/permissions.xml").read_bytes()
    replace_signed(path, "enclaves/policy_node/permissions", content.replace(b"<id>7<", b"<id>8<"))


DAMAGE: dict[Callable[[Path], None], str] = {
    _exposed_key: "key.pem: has mode 0640, so others may read it; run: chmod 600",
    _swapped: "recorder_node/permissions.p7s: grants to CN=/policy_node, expected CN=/recorder_node",
    _foreign_key: "recorder_node/key.pem: is not the key of its certificate",
    _link_out: "operator/identity_ca.cert.pem: leads out of the keystore",
    _node_as_ca: "policy_node/permissions.p7s: its signature is not one of this permissions CA",
    _foreign_certificate: "operator/cert.pem: not signed by CN=sealegsCA",
    _open_governance: "enable_join_access_control is 'false', expected true",
    _wildcard: "allows 'rt/*': not the name of a ROS topic",
    _allow_by_default: "its default is 'ALLOW', expected DENY",
    _other_domain: "grants in domain(s) [8]; governance covers [7]",
    lambda path: (path / "private/note").touch(): "private/note: does not belong into a keystore",
    lambda path: (path / "enclaves/operator/key.pem").unlink(): "enclaves/operator/key.pem: is missing",
    lambda path: (path / "public").chmod(0o777): "public: others may write it",
}


@pytest.mark.parametrize(("damage", "problem"), DAMAGE.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_damage_is_named(keystore: Path, damage: Callable[[Path], None], problem: str) -> None:
    damage(keystore)
    problems = check_keystore(keystore).problems
    assert any(problem in found for found in problems), problems


def test_time(written: Path) -> None:
    late = check_keystore(written, dt.datetime.now(dt.UTC) + dt.timedelta(days=3651)).problems
    assert len(late) == 2 + 2 * len(NODES)  # the CA in its two roles; each certificate and each grant
    assert all(" only" in problem for problem in late)


def test_a_robots_copy_needs_no_private_key_of_the_ca(keystore: Path) -> None:
    shutil.rmtree(keystore / "private")
    for other in NODES - {"/robot_node"}:
        shutil.rmtree(keystore / f"enclaves{other}")
    report = check_keystore(keystore)
    assert report.problems == []
    assert report.notes == ["without the CA's private key, as a robot's copy should be"]


@pytest.mark.parametrize(
    "xml",
    [
        b"", b"<dds/>", b"<a/>", b"<!DOCTYPE dds><dds/>", b"<dds><permissions/></dds>",
        b"<dds><domain_access_rules/></dds>",
        governance_xml(0).replace(b"<id>0", b"<id>-1"), governance_xml(0).replace(b"ENCRYPT", b"NONE"),
        governance_xml(0).replace(b"<topic_expression>*", b"<topic_expression>rt/task"),
        permissions_xml("/a", graph(ROBOT, INPUTS)["/robot_node"], 0, Validity.days_from_now(1)).replace(b"T", b" "),
    ],
)  # fmt: skip
def test_malformed_documents(xml: bytes) -> None:
    for read in (read_governance, read_permissions):
        with pytest.raises(SecurityError):
            read(xml)


def test_verbs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "keystore"
    given = ["security", "init", "--out", str(out), "--task", "push", "--namespace", "/left", "--domain", "3"]
    assert main(given) == 0
    assert f"ROS_SECURITY_KEYSTORE={out}" in capsys.readouterr().out
    assert main(["security", "check", str(out), "--show"]) == 0
    shown = capsys.readouterr().out
    assert "may command the robot: /left/policy_node" in shown
    assert "  publish rt/left/joint_trajectory" in shown
    assert "  read rt/left/objects/target/pose" in shown
    assert os.listdir(tmp_path / "new") == ["keystore"]
    assert main(given) == 2
    assert "exists already, and a keystore is never overwritten" in capsys.readouterr().err
    for words, problem in {
        ("--out", str(out / "x"), "--domain", "233"): "domain 233 is not from 0 to 232",
        ("--out", str(out / "x"), "--days", "0"): "1 to 36500 days, got 0",
        ("--out", str(out / "x"), "--namespace", "left"): "namespace 'left' is no absolute ROS name",
    }.items():
        assert main(["security", "init", *words]) == 2
        assert problem in capsys.readouterr().err
    assert not (out / "x").exists()
    (out / "enclaves/governance.xml").write_text("<dds/>")
    assert main(["security", "check", str(out)]) == 2
    assert "enclaves/governance.p7s: what is signed is not what governance.xml says" in capsys.readouterr().err
    assert main(["security", "check", str(tmp_path)]) == 2
    assert "no keystore at" in capsys.readouterr().err
