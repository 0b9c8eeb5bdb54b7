"""Commands that need no network: inspect, verify, id; the help; and what they must not import."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from cli.app import COMMANDS, run
from cli.failures import EXIT_CODES
from swarm.content.envelope import Envelope
from swarm.content.signature import sign
from tests.support.cli_fakes import invoke

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """A shared folder of three files, `tree.swarm` beside it."""
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "a.bin").write_bytes(bytes(range(256)) * 400)
    (tree / "sub" / "empty").write_bytes(b"")
    (tree / "run.sh").write_text("#!/bin/sh\n")
    (tree / "run.sh").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SWARM_HOME", str(tmp_path / "home"))
    assert run_share() == 0
    capsys.readouterr()
    return tree


def run_share() -> int:
    return invoke("share", "tree", "--piece-size", "16KiB")


def test_inspect_describes_the_whole_and_every_file(folder: Path, capsys: Capture) -> None:
    assert run(["inspect", "tree.swarm"]) == 0
    lines = capsys.readouterr().out.splitlines()
    manifest = Envelope.from_bytes(Path("tree.swarm").read_bytes()).manifest
    facts = dict(line.split(":", 1) for line in lines[:7])
    assert {key: value.strip() for key, value in facts.items()} == {
        "name": "tree",
        "kind": "folder",
        "id": str(manifest.id),
        "signed by": "nobody",
        "size": "102410 bytes (100.0KiB)",
        "files": "3",
        "pieces": "8 of 16.0KiB",
    }
    digest = next(entry.blake3.hex() for entry in manifest.files if entry.path == ("run.sh",))
    assert f"             10 x {digest}  tree/run.sh" in lines
    assert any(line.endswith("  tree/sub/empty") for line in lines)


def test_inspect_refuses_what_is_no_manifest(folder: Path, capsys: Capture) -> None:
    Path("letter.swarm").write_text("Dear Ann")
    assert run(["inspect", "letter.swarm"]) == 3
    assert run(["inspect", "nothing.swarm"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "swarm: letter.swarm is not a .swarm file",
        "swarm: there is no file nothing.swarm: give a .swarm file, an id or a swarm: link",
    ]


@pytest.mark.parametrize("content", [b"", b"\0" * 100, b"\x85" * 100, bytes(range(256)) * 400])
def test_what_does_not_begin_as_a_manifest_is_said_to_be_none(
    folder: Path, capsys: Capture, content: bytes
) -> None:
    Path("disk.img").write_bytes(content)
    assert run(["inspect", "disk.img"]) == 3
    assert capsys.readouterr().err == "swarm: disk.img is not a .swarm file\n"


def test_a_manifest_that_is_cut_is_said_to_be_cut(folder: Path, capsys: Capture) -> None:
    Path("cut.swarm").write_bytes(Path("tree.swarm").read_bytes()[:-7])
    assert run(["inspect", "cut.swarm"]) == 3
    assert "this is not a swarm manifest file: the bytes end too early" in capsys.readouterr().err


def test_verify_says_which_way_round_its_arguments_are(folder: Path, capsys: Capture) -> None:
    hint = "the manifest comes first: swarm verify MANIFEST PATH"
    assert run(["verify", "tree/a.bin", "tree.swarm"]) == 3
    assert capsys.readouterr().err == f"swarm: tree/a.bin is not a .swarm file; {hint}\n"
    os.truncate("tree/a.bin", 2**40)
    assert run(["verify", "tree/a.bin", "tree.swarm"]) == 3
    assert capsys.readouterr().err == f"swarm: tree/a.bin is too long for a manifest; {hint}\n"
    assert run(["verify", "tree", "tree.swarm"]) == 2
    assert f"'tree' is a folder; {hint} (see" in capsys.readouterr().err


def test_verify_of_a_link_or_an_id_says_how_to_get_the_manifest(folder: Path, capsys: Capture) -> None:
    cid = Envelope.from_bytes(Path("tree.swarm").read_bytes()).manifest.id
    # A link with several peers is longer than the name of a file can be.
    for name in (str(cid), f"swarm:{cid}?name=tree", f"swarm:{cid}?name={'x' * 300}"):
        assert run(["verify", name, "tree"]) == 2
        error = capsys.readouterr().err
        assert "needs the .swarm file, not a link or an id: 'swarm fetch --save-manifest' writes it" in error
        assert "name=" not in error, "a link may hold secrets"


def test_200_mutations_of_a_signed_manifest_are_exit_code_3_or_6(folder: Path, capsys: Capture) -> None:
    rng = random.Random(11)
    manifest = Envelope.from_bytes(Path("tree.swarm").read_bytes()).manifest
    data = Envelope(manifest, sign(bytes(range(32)), manifest.encode())).to_bytes()
    Path("signed.swarm").write_bytes(data)
    assert run(["verify", "signed.swarm", "tree"]) == 0
    capsys.readouterr()
    for _ in range(200):
        mutant = bytearray(data)
        position = rng.randrange(len(mutant))
        match rng.randrange(4):
            case 0:
                mutant[position] ^= 1 << rng.randrange(8)
            case 1:
                del mutant[position : position + rng.randint(1, 40)]
            case 2:
                mutant[position:position] = rng.randbytes(rng.randint(1, 40))
            case _:
                mutant[position] = (mutant[position] + rng.randint(1, 255)) % 256
        Path("mutant.swarm").write_bytes(mutant)
        assert run(["verify", "mutant.swarm", "tree"]) in {3, 6}, mutant.hex()
        err = capsys.readouterr().err
        assert err.startswith("swarm: ")
        assert err.count("\n") == 1


def test_verify_agrees_with_what_was_shared(folder: Path, capsys: Capture) -> None:
    assert run(["verify", "tree.swarm", "tree"]) == 0
    manifest = Envelope.from_bytes(Path("tree.swarm").read_bytes()).manifest
    assert capsys.readouterr().out == f"tree matches {manifest.id}\n"


def test_verify_names_the_pieces_that_differ(folder: Path, capsys: Capture) -> None:
    data = bytearray((folder / "a.bin").read_bytes())
    for position in (0, 16384, 3 * 16384 + 5):
        data[position] ^= 1
    (folder / "a.bin").write_bytes(data)
    (folder / "run.sh").unlink()
    (folder / "more\x1b[31m").write_text("extra")
    assert run(["verify", "tree.swarm", "tree"]) == 6
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "run.sh: missing, piece 7",
        "a.bin: the bytes differ, pieces 0-1",
        "a.bin: the bytes differ, piece 3",
    ]
    assert err.splitlines() == [
        "note: more\\x1b[31m is not in the manifest",
        "swarm: tree does not match the manifest: 1 file missing, 3 pieces bad",
    ]


def test_verify_notes_what_is_no_difference_in_content(folder: Path, capsys: Capture) -> None:
    (folder / "run.sh").chmod(0o644)
    assert run(["verify", "tree.swarm", "tree"]) == 0
    assert capsys.readouterr().err == "note: run.sh: the executable bit differs\n"


def test_verify_names_some_of_many_files_that_do_not_belong(folder: Path, capsys: Capture) -> None:
    for number in range(50):
        (folder / f"extra-{number:02}").touch()
    assert run(["verify", "tree.swarm", "tree"]) == 0
    notes = capsys.readouterr().err.splitlines()
    assert len(notes) == 11
    assert notes[-1] == "note: 40 more files are not in the manifest"


def test_verify_tells_a_cut_file(folder: Path, capsys: Capture) -> None:
    os.truncate(folder / "a.bin", 5 * 16384 + 1)
    assert run(["verify", "tree.swarm", "tree"]) == 6
    assert capsys.readouterr().out.splitlines() == [
        "a.bin: 81921 bytes, expected 102400",
        "a.bin: the file is too short, pieces 5-6",
    ]


def test_verify_of_a_file_against_a_folder_is_a_usage_error(folder: Path, capsys: Capture) -> None:
    assert run(["verify", "tree.swarm", "tree/a.bin"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def told(capsys: Capture) -> list[dict[str, object]]:
    """The JSON lines of a command, without when they came."""
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["event"] == "command_started"
    return [{key: value for key, value in record.items() if key != "t"} for record in records[1:]]


def test_inspect_as_json_has_every_file(folder: Path, capsys: Capture) -> None:
    assert run(["inspect", "tree.swarm", "--json"]) == 0
    whole, *files = told(capsys)
    manifest = Envelope.from_bytes(Path("tree.swarm").read_bytes()).manifest
    assert whole["event"] == "manifest_inspected"
    assert (whole["manifest"], whole["folder"], whole["files"]) == (str(manifest.id), True, 3)
    assert [file["path"] for file in files if file["event"] == "file_inspected"] == [
        "/".join(("tree", *entry.path)) for entry in manifest.files
    ]


def test_verify_as_json_tells_what_differs(folder: Path, capsys: Capture) -> None:
    (folder / "run.sh").unlink()
    assert run(["verify", "-j", "tree.swarm", "tree"]) == 6
    *_, difference, result, failed = told(capsys)
    assert difference == {"event": "difference_found", "text": "run.sh: missing, piece 7"}
    assert (result["event"], result["matches"]) == ("path_verified", False)
    assert (failed["event"], failed["exit_code"]) == ("command_failed", 6)


def test_id_as_json(folder: Path, capsys: Capture) -> None:
    assert run(["id"]) == 0
    peer = capsys.readouterr().out.strip()
    assert run(["id", "--json"]) == 0
    assert told(capsys) == [{"event": "node_identified", "peer": peer}]


def completed(folder: Path, words: str) -> list[str]:
    """What the shell would offer after these words, in the folder above the shared one."""
    ran = subprocess.run(
        [sys.executable, "-m", "swarm"],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "_SWARM_COMPLETE": "zsh_complete",
            "COMP_WORDS": words,
            "COMP_CWORD": str(len(words.split(" ")) - 1),
        },
    )
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_the_shell_completes_ids_links_and_files(folder: Path) -> None:
    manifest = Envelope.from_bytes(Path("tree.swarm").read_bytes()).manifest
    assert str(manifest.id) in completed(folder, "swarm fetch bafy")
    assert any(line.startswith(f"swarm\\:{manifest.id}") for line in completed(folder, "swarm fetch swarm:"))
    assert "file" in completed(folder, "swarm fetch tr")
    assert "--json" in completed(folder, "swarm fetch --js")


def test_id_is_made_once_and_stays(folder: Path, capsys: Capture) -> None:
    assert run(["id"]) == 0
    first = capsys.readouterr().out
    assert first.startswith("12D3Koo")
    assert run(["id"]) == 0
    assert capsys.readouterr().out == first
    keys = [path for path in Path("home").rglob("*") if path.is_file() and path.stat().st_size == 32]
    assert [oct(path.stat().st_mode & 0o777) for path in keys] == ["0o600"]


def test_id_without_a_place_to_keep_it_is_the_disks_doing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("SWARM_HOME", str(folder / "a.bin" / "home"))
    assert run(["id"]) == 7
    assert capsys.readouterr().err.count("\n") == 1


def test_the_help_lists_every_command_and_every_exit_code(capsys: Capture) -> None:
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert f"\n  {command} " in text
    for code, meaning in EXIT_CODES:
        assert f"{code:>3}  {meaning}" in text
    listed = text.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(listed) == len(COMMANDS), "a line for each"
    assert all(line.endswith(".") and not line.endswith("...") for line in listed)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_help_with_debug_and_verbose(capsys: Capture, command: str) -> None:
    assert run([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert text.startswith(f"Usage: swarm {command} ")
    assert "--debug" in text
    assert "--verbose" in text
    assert "130  SIGINT" in text


def test_the_program_without_a_command_shows_its_help_and_fails(capsys: Capture) -> None:
    assert run([]) == 2
    assert "Usage: swarm [OPTIONS] COMMAND" in capsys.readouterr().err


def test_unknown_commands_and_options_are_exit_code_2(capsys: Capture) -> None:
    assert run(["shout"]) == 2
    assert run(["share", "--loud"]) == 2
    assert all(line.startswith("swarm: No such ") for line in capsys.readouterr().err.splitlines())


@pytest.mark.parametrize(
    ("meant", "hint"),
    [("fecth", "Did you mean 'fetch'?"), ("statsu", "Did you mean 'status'?"), ("lst", "'list' or ")],
)
def test_a_command_that_is_mistyped_is_guessed(capsys: Capture, meant: str, hint: str) -> None:
    assert run([meant, "--loud"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"swarm: No such command '{meant}'. ")
    assert hint in error


def test_version(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("swarm ")


def imported(folder: Path, *arguments: str) -> set[str]:
    """The top-level packages in a process after it has run a command."""
    code = (
        "import json, sys\nfrom cli.app import run\n"
        "code = run(json.loads(sys.argv[1]))\n"
        "print(json.dumps([code, sorted({name.split('.')[0] for name in sys.modules})]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, json.dumps(arguments)],
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    exit_code, names = json.loads(result.stdout.splitlines()[-1])
    assert exit_code == 0
    return set(names)


@pytest.mark.parametrize("arguments", [("--help",), ("fetch", "--help"), ("demo", "--help"), ("--version",)])
def test_the_help_imports_nothing_heavy(folder: Path, arguments: tuple[str, ...]) -> None:
    assert not imported(folder, *arguments) & {
        "libp2p",
        "trio",
        "rich",
        "blake3",
        "cryptography",
        "swarm.node",
    }


@pytest.mark.parametrize("arguments", [("inspect", "tree.swarm"), ("verify", "tree.swarm", "tree"), ("id",)])
def test_commands_without_a_network_do_not_import_libp2p(folder: Path, arguments: tuple[str, ...]) -> None:
    names = imported(folder, *arguments)
    assert "trio" in names
    assert not names & {"libp2p", "multiaddr", "rich"}


def test_a_reader_that_goes_away_is_no_traceback(folder: Path) -> None:
    for number in range(1000):
        (folder / f"{number:04} with a rather long name so that a pipe fills up").write_bytes(b"")
    assert run_share() == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "cli", "inspect", "tree.swarm"],
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(20) == 1
    assert process.stderr.read() == b""
    process.stderr.close()
