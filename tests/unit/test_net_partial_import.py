"""The partial import of libp2p, in fresh interpreters: what it leaves out, and that it refuses to work."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "aioquic",
    "pycparser",
    "httpx",
    "zeroconf",
    "miniupnpc",
    "trio_websocket",
    "cryptography.x509.extensions",
    "asyncio",
    "cryptography.hazmat.primitives.serialization.ssh",
    "email.message",
    "mmh3",
    "typing_extensions",
}

PARTIAL_IMPORT = """
import sys
from pathlib import Path
from swarm.net.libp2p import partial_import
with partial_import.importing() as is_partial:
    import swarm.node
"""


def _run(script: str, **variables: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_partial_import_loads_none_of_the_parts_it_never_uses() -> None:
    loaded = set(_run(PARTIAL_IMPORT + "print(*sys.modules, is_partial)").split())
    assert {"libp2p.host.basic_host", "True"} <= loaded
    assert not loaded & HEAVY


def test_without_it_they_are_loaded() -> None:
    assert set(_run("import swarm.node, sys; print(*sys.modules)").split()) >= HEAVY


@pytest.mark.parametrize(
    "part",
    ["libp2p.transport.quic.transport.QUICTransport", "libp2p.relay.circuit_v2.transport.CircuitV2Transport"],
)
def test_a_part_that_is_not_loaded_can_be_tested_for_and_not_used(part: str) -> None:
    module, name = part.rsplit(".", 1)
    script = f"""
from {module} import {name} as part
print(isinstance(object(), part))
try:
    part().run()
except ImportError as error:
    print(error)
"""
    refusal = f"{part} is not loaded in this program (run was asked of it)"
    assert _run(PARTIAL_IMPORT + script).splitlines() == ["False", refusal]


def test_dependencies_of_others_are_whole_again_afterwards() -> None:
    script = """
from cryptography import x509
import cffi, cryptography.x509.oid, prometheus_client.core
print(x509.Certificate.__module__, x509 is cryptography.x509)
"""
    assert _run(PARTIAL_IMPORT + script).split() == ["cryptography.hazmat.bindings._rust.x509", "True"]


def test_what_a_substitute_stands_for_is_whole_again_and_says_the_same() -> None:
    script = """
from libp2p.identity.identify import identify
from importlib.metadata import version
import asyncio, anyio, trio_typing, google.protobuf.text_format as text
from cryptography.hazmat.primitives.serialization.ssh import load_ssh_private_key as load
asyncio.run(asyncio.sleep(0))
print(identify.AGENT_VERSION == "py-libp2p/" + version("libp2p"))
print(load.__module__.endswith("ssh"), text.PrintMessage is not None, hasattr(trio_typing, "__file__"))
"""
    said = _run(PARTIAL_IMPORT + script).split()
    assert said == ["True"] * 4


def test_hash_functions_are_loaded_when_one_is_named() -> None:
    script = """
import hashlib, multihash
print(multihash.sum(b"data", "sha2-256").digest == hashlib.sha256(b"data").digest())
print(multihash.Func.sha2_256 == 0x12, multihash.sum(b"data", "shake-256").length)
print(multihash.is_app_code(0x03), multihash.is_app_code(0x12))
"""
    assert _run(PARTIAL_IMPORT + script).split() == ["True", "True", "64", "True", "False"]


def test_keys_of_every_kind_are_still_read() -> None:
    script = """
from libp2p.crypto import ed25519, rsa, secp256k1
from libp2p.crypto.serialization import deserialize_public_key
for kind in (ed25519, rsa, secp256k1):
    pair = kind.create_new_key_pair()
    read = deserialize_public_key(pair.public_key.serialize())
    signature = pair.private_key.sign(b"data")
    print(read.verify(b"data", signature), read.verify(b"other", signature))
"""
    assert _run(PARTIAL_IMPORT + script).split() == ["True", "False"] * 3


def test_it_comes_too_late_once_libp2p_is_loaded() -> None:
    assert _run("import libp2p" + PARTIAL_IMPORT + "print(is_partial)").strip() == "False"


def test_an_unknown_version_of_libp2p_is_loaded_whole() -> None:
    script = PARTIAL_IMPORT.replace("with", "partial_import.MADE_FOR = '0.8.0'\nwith")
    assert _run(script + "print(is_partial, 'aioquic' in sys.modules)").split() == ["False", "True"]


NO_PROCESS = """
import sys
from pathlib import Path
def told(event, arguments):
    if event in {"subprocess.Popen", "os.fork", "os.posix_spawn"}:
        print("started", arguments[:2], flush=True)
sys.addaudithook(told)
"""


def test_a_partial_import_starts_no_process_to_find_the_c_library() -> None:
    script = """
import ctypes.util, ifaddr
from trio._core._thread_cache import set_os_thread_name
print(set_os_thread_name is not None, any(each.ips for each in ifaddr.get_adapters()))
print(ctypes.util.find_library.__module__)
"""
    assert _run(NO_PROCESS + PARTIAL_IMPORT + script).split() == ["True", "True", "ctypes.util"]


def test_another_library_is_found_as_ever_during_a_partial_import() -> None:
    script = """
from ctypes.util import find_library as real
import ctypes, sys
del sys.modules["ctypes.util"], ctypes.util
from swarm.net.libp2p import partial_import
with partial_import.importing():
    import ctypes.util
    print(ctypes.util.find_library is real, ctypes.util.find_library("z") == real("z"))
    print(ctypes.util.find_library("c") == real("c"))
"""
    assert _run(script).split() == ["False", "True", "True"]


@pytest.mark.parametrize("command", ["ping", "list"])
def test_a_command_starts_no_process_and_resolves_no_address(command: str, tmp_path: Path) -> None:
    nobody = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5"
    script = f"""
sys.argv[1:] = [{command!r}, {nobody!r}]
from cli.app import run
code = run()
print("names", "encodings.idna" in sys.modules, "stringprep" in sys.modules)
print(code)
"""
    said = _run(NO_PROCESS + script, SWARM_HOME=str(tmp_path))
    # It gets as far as the dial.
    assert said.split()[-1] == "4"
    assert "started" not in said
    assert "names False False" in said
