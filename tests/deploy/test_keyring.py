"""`sealegs keys`: through the command, as a user does."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sealegs.cli import main
from sealegs_deploy.signing import key_id, trust_line, trusted_keys, trusted_keys_path

THEIRS = Ed25519PrivateKey.from_private_bytes(bytes(range(32))).public_key().public_bytes_raw().hex()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def test_make_list_trust_and_revoke(home: Path, capsys: pytest.CaptureFixture[str]):
    def output(*arguments: str) -> str:
        assert main(["keys", *arguments]) == 0
        return capsys.readouterr().out

    assert "no keys yet" in output("list")
    made = output("make")
    assert "signing.pem" in made
    assert main(["keys", "make"]) == 2
    assert "never replaced" in capsys.readouterr().err
    output("make", "--name", "v1.2")
    keys = home / "config" / "sealegs" / "keys"
    assert sorted(path.name for path in keys.iterdir()) == ["signing.pem", "signing.pub", "v1.2.pem", "v1.2.pub"]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in keys.glob("*.pem"))

    line = trust_line(THEIRS, "a friend").strip()
    assert key_id(THEIRS) in output("trust", *line.split())
    assert "nothing changed" in output("trust", line)
    assert trusted_keys_path().read_text() == line + "\n"
    assert len(trusted_keys()) == 3
    listed = output("list").splitlines()
    assert [entry.split()[1] for entry in listed] == ["own", "own", "trusted"]
    assert f"{key_id(THEIRS)}  trusted  'a friend'" in listed[2]

    own = listed[0].split()[0]
    assert main(["keys", "revoke", own]) == 2
    assert "your own key" in capsys.readouterr().err
    output("revoke", key_id(THEIRS))
    assert len(trusted_keys()) == 2
    assert main(["keys", "revoke", key_id(THEIRS)]) == 2
    assert "available: none" in capsys.readouterr().err


def test_files_are_added_to_what_is_there_and_comments_stay(home: Path, capsys: pytest.CaptureFixture[str]):
    trusted_keys_path().parent.mkdir(parents=True)
    kept = f"# the lab\n\n{trust_line('ab' * 32, 'lab')}".rstrip("\n")
    trusted_keys_path().write_text(kept)
    (home / "friend.pub").write_text(trust_line(THEIRS, "theirs"))
    assert main(["keys", "trust", str(home / "friend.pub"), "--name", "a friend"]) == 0
    assert trusted_keys_path().read_text() == f"{kept}\n{trust_line(THEIRS, 'a friend')}"
    assert main(["keys", "revoke", key_id(THEIRS)]) == 0
    assert trusted_keys_path().read_text() == kept + "\n"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("ed25519 abcd me", "expected `ed25519"),
        (f"rsa {THEIRS} me", "no file"),
        (trust_line(THEIRS, "a\x1b[2Jb").strip(), "no name for a signer"),
        (trust_line(THEIRS, f"a\u2028ed25519 {'0' * 64}").strip(), "no name for a signer"),
        (trust_line(THEIRS, "x" * 81).strip(), "no name for a signer"),
        ("absent.pub", "no file absent.pub"),
    ],
)
def test_malformed_keys_are_refused_and_nothing_is_written(
    given: str, message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["keys", "trust", given]) == 2
    assert message in capsys.readouterr().err
    assert not trusted_keys_path().exists()


def test_malformed_files_are_refused(home: Path, capsys: pytest.CaptureFixture[str]):
    bad = home / "bad.pub"
    for content, message in ((trust_line(THEIRS, "x") + "nonsense\n", "bad.pub:2"), ("# nobody\n", "holds no key")):
        bad.write_text(content)
        assert main(["keys", "trust", str(bad)]) == 2
        assert message in capsys.readouterr().err
    bad.write_text(trust_line(THEIRS, "x"))
    bad.chmod(0o666)
    assert main(["keys", "trust", str(bad)]) == 2
    assert "chmod o-w" in capsys.readouterr().err
    assert not trusted_keys_path().exists()


def test_keys_alone_lists_its_verbs(capsys: pytest.CaptureFixture[str]):
    assert main(["keys"]) == 0
    shown = capsys.readouterr().out
    assert all(f"keys {verb}" in shown for verb in ("list", "make", "trust"))
