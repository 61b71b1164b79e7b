#!/usr/bin/env python3
"""Signatures go both ways between `understudy` and the Python package `model-signing`.

    python3 -m venv venv && venv/bin/pip install model-signing pyopenssl
    venv/bin/python tests/golden/check_model_signing.py
    venv/bin/python tests/golden/check_model_signing.py --understudy target/debug/understudy

Without a binary, the package verifies the golden signature that our tests compare byte for byte with
what we write, and signs a directory anew as `python.sig` was made. With one, each side signs with a
fresh key and the other verifies, and each refuses a directory that was changed afterwards.
"""

import argparse
import pathlib
import shutil
import subprocess
import sys
import tempfile

GOLDEN = pathlib.Path(__file__).parent / "signature"


def passes(*command) -> bool:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    print("ok  " if done.returncode == 0 else "no  ", " ".join(map(str, command)))
    if done.returncode:
        print("     ", (done.stderr or done.stdout).strip().splitlines()[-1:])
    return done.returncode == 0


def python(verb, directory, signature, *key) -> bool:
    module = (sys.executable, "-m", "model_signing", verb, "key", directory)
    return passes(*module, "--signature", signature, *key)


def golden(home: pathlib.Path) -> None:
    adapter = GOLDEN / "adapter"
    for name, key in (("ours.sig", "ours.pub.pem"), ("python.sig", "key.pub.pem")):
        assert python("verify", adapter, GOLDEN / name, "--public_key", GOLDEN / key), name
    changed = home / "changed"
    shutil.copytree(adapter, changed)
    (changed / "probes" / "one.json").write_text("[]")
    key = ("--public_key", GOLDEN / "ours.pub.pem")
    assert not python("verify", changed, GOLDEN / "ours.sig", *key), "a change was not seen"


def live(home: pathlib.Path, understudy: pathlib.Path) -> None:
    adapter, private, public = home / "adapter", home / "key.pem", home / "key.pub.pem"
    shutil.copytree(GOLDEN / "adapter", adapter)
    curve = ("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
    assert passes(*curve)
    assert passes("openssl", "ec", "-in", private, "-pubout", "-out", public)
    ours = (understudy, "--data-dir", home / "data", "adapter")
    by_us, by_them = home / "ours.sig", home / "theirs.sig"
    assert passes(*ours, "sign", adapter, "--key", private, "--out", by_us)
    assert python("verify", adapter, by_us, "--public_key", public)
    assert python("sign", adapter, by_them, "--private_key", private)
    verify = (*ours, "verify", adapter, "--signature", by_them, "--key", public)
    assert passes(*verify)
    (adapter / "adapter_model.safetensors").write_text("something else")
    assert not passes(*verify), "a change was not seen"
    assert not python("verify", adapter, by_us, "--public_key", public), "a change was not seen"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--understudy", type=pathlib.Path)
    understudy = parser.parse_args().understudy
    with tempfile.TemporaryDirectory() as home:
        golden(pathlib.Path(home))
        if understudy:
            live(pathlib.Path(home), understudy.resolve())
    print("both directions hold" if understudy else "the golden signatures hold")


if __name__ == "__main__":
    main()
