#!/usr/bin/env python3
"""Real telemetry clients against a running server, in the versions that are pinned here.

    python3 tests/clients/run.py                       # builds the server and the environments
    python3 tests/clients/run.py --binary target/release/understudy --only langfuse

Makes a virtual environment for each requirements-*.txt at its first run (some minutes and 1.5 GB;
with `uv`, where that is on PATH), starts `understudy serve --mock-engine` with an empty data
directory for every client, lets the client go through one run against a scripted model, and reads
back what arrived. Prints every case and how many passed, and exits 0 only when all did.
"""

import argparse
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))

import cases  # noqa: E402
from model import Model  # noqa: E402

PATIENCE = 30


def main():
    arguments = parse()
    chosen = [case for case in cases.CASES if arguments.only in case[0]]
    if not chosen:
        raise SystemExit(f"no client is called like `{arguments.only}`")
    pythons = {name: python(arguments, name) for name in sorted({case[1] for case in chosen})}
    program = arguments.binary or build(arguments)
    passed, failed = 0, 0
    for client, requirements, steps, check in chosen:
        try:
            run(program, pythons[requirements], client, steps, check)
            passed += 1
            print(f"ok      {client}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {client}\n{traceback.format_exc()}", flush=True)
    print(f"\n{passed} clients passed, {failed} failed")
    return 1 if failed or not passed else 0


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--binary", type=pathlib.Path, help="instead of building one")
    parser.add_argument("--release", action="store_true", help="build with optimisation")
    parser.add_argument("--venvs", type=pathlib.Path, default=ROOT / ".venv/clients",
                        help="where the environments are")
    parser.add_argument("--only", default="", help="only clients whose name holds this")
    return parser.parse_args()


def python(arguments, name):
    """The interpreter of an environment that has what is listed, as it is listed now."""
    home = (arguments.venvs / name).absolute()
    wanted, mark = HERE / f"requirements-{name}.txt", home / "installed.txt"
    interpreter = home / "bin/python"
    if mark.exists() and mark.read_text() == wanted.read_text():
        return interpreter
    print(f"installing {wanted.name}", flush=True)
    uv = shutil.which("uv")
    if not interpreter.exists():
        venv.create(home, with_pip=not uv)
    install = [uv, "pip", "install", "--python", interpreter] if uv else [interpreter, "-m", "pip", "install"]
    subprocess.check_call([*install, "-q", "-r", wanted])
    mark.write_text(wanted.read_text())
    return interpreter


def build(arguments):
    profile = ["--release"] if arguments.release else []
    command = ["cargo", "build", "-p", "understudy", "--message-format=json", *profile]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return next(pathlib.Path(m["executable"]) for m in messages if m.get("executable"))


def run(program, interpreter, client, steps, check):
    """One client's run, from an empty server to what is asserted."""
    program = program.absolute()
    with tempfile.TemporaryDirectory() as directory:
        server, url, grpc = start(program, directory)
        model = Model()
        try:
            printed = drive(interpreter, client, {"MODEL": model.url, "SERVER": url, "GRPC": grpc})
            records = lambda: read(program, directory)
            found = settle(url, records, steps)
            arrived = cases.Arrived(*found, model.minted, model.headers, printed, url, records)
            check(arrived)
        finally:
            model.close()
            server.terminate()
            server.wait()


def start(program, directory):
    (host, port), (_, grpc) = address(), address()
    command = [program, "--data-dir", f"{directory}/state", "serve", "--mock-engine",
               "--listen", f"{host}:{port}", "--grpc", f"{host}:{grpc}"]
    server = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    url = f"http://{host}:{port}"
    for _ in range(600):
        if server.poll() is not None:
            raise RuntimeError("the server ended at once")
        try:
            urllib.request.urlopen(f"{url}/ready", timeout=1)
            return server, url, f"{host}:{grpc}"
        except OSError:
            time.sleep(0.1)
    server.terminate()
    raise RuntimeError("the server is not ready after a minute")


def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()


def drive(interpreter, client, addresses):
    """Runs the client; what it printed."""
    clean = {name: value for name, value in os.environ.items()
             if not name.lower().endswith("_proxy")
             and not name.startswith(("OTEL_", "LANGSMITH_", "LANGFUSE_", "OPENAI_"))}
    done = subprocess.run([interpreter, HERE / "drive.py", client], env={**clean, **addresses},
                          capture_output=True, text=True, timeout=300)
    said = done.stdout + done.stderr
    assert done.returncode == 0, said[-3000:]
    for complaint in ["Failed to export", "Transient error", "failed with 4", "failed with 5"]:
        assert complaint not in said, said[-3000:]
    return done.stdout


def settle(url, records, steps):
    """Waits until every body was read and so many steps are there; the records then."""
    deadline = time.monotonic() + PATIENCE
    while True:
        with urllib.request.urlopen(f"{url}/api/v1/journal", timeout=20) as reply:
            counts = json.load(reply)
        if counts["steps"] >= steps and time.monotonic() > deadline - PATIENCE + 2:
            return records()
        assert time.monotonic() < deadline, f"{steps} steps were expected: {counts}"
        time.sleep(0.1)


def read(program, directory):
    """Steps in the order of their time, and outcomes, as the command line shows them."""
    command = [program, "--data-dir", f"{directory}/state", "dataset", "records"]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True)
    # None at all is an answer as well.
    assert done.returncode in (0, 1) and not done.stderr, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    steps = [row["step"] for row in rows if "step" in row]
    steps.sort(key=lambda step: (step["at"], len(step["prompt"])))
    return steps, [row["outcome"] for row in rows if "outcome" in row]


if __name__ == "__main__":
    sys.exit(main())
