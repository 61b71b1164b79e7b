#!/usr/bin/env python3
"""Real clients against a running server: openai, litellm, langchain-openai, and vLLM's endpoints.

    python3 tests/conformance/run.py                      # the mock engine, built here
    python3 tests/conformance/run.py --release --base smollm2-135m-instruct
    python3 tests/conformance/run.py --lm-eval            # and EleutherAI's harness as a client
    python3 tests/conformance/run.py --url http://host:8700 --model NAME

Makes a virtual environment with the clients at its first run, builds `understudy` unless given a
binary, starts it on a free port with an empty data directory, and ends it. Prints every case and
how many passed, and exits 0 only when all did.
"""

import argparse
import json
import os
import pathlib
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


def main():
    arguments = parse()
    if not arguments.inside:
        inside = [python(arguments), __file__, "--inside", *sys.argv[1:]]
        return subprocess.call([*inside, "--binary", binary(arguments)])
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as directory:
        loras = pathlib.Path(directory) / "loras"
        loras.mkdir()
        if arguments.url:
            return run(arguments.url, None, arguments, loras)
        # A millisecond for a token leaves time to go away, to pause, and to run out of time.
        mock = ["--mock-engine", "--mock-step", "1"]
        engine = ["--base", arguments.base] if arguments.base else mock
        allowed = ["--allow-adapter-updates", "--adapter-root", str(loras),
                   "--allow-request-templates"]
        servers = []
        try:
            for name, options in [("open", [*engine, *allowed]), ("closed", mock)]:
                servers.append(start(arguments, pathlib.Path(directory) / name, options))
            (_, url), (_, closed) = servers
            return run(url, closed, arguments, loras)
        finally:
            for server, _ in servers:
                server.terminate()
                server.wait()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--binary", help="instead of building one")
    parser.add_argument("--release", action="store_true", help="build with optimisation")
    parser.add_argument("--base", help="a base model instead of the mock engine")
    parser.add_argument("--lm-eval", action="store_true", help="also run lm-eval, a large install")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--model", help="what to ask that server for")
    parser.add_argument("--venv", default=str(ROOT / ".venv/conformance"))
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def python(arguments):
    """The interpreter of a venv that has the clients, and has them as they are listed now."""
    interpreter = pathlib.Path(arguments.venv) / "bin/python"
    if not interpreter.exists():
        venv.create(arguments.venv, with_pip=True)
    for name in ["requirements.txt", "requirements-lm-eval.txt"][: 1 + arguments.lm_eval]:
        wanted, mark = HERE / name, pathlib.Path(arguments.venv) / name
        if not mark.exists() or mark.read_text() != wanted.read_text():
            print(f"installing {name}", flush=True)
            subprocess.check_call([interpreter, "-m", "pip", "install", "-q", "-r", wanted])
            mark.write_text(wanted.read_text())
    return str(interpreter)


def binary(arguments):
    """The server's binary, built where none is given and none runs."""
    if arguments.binary or arguments.url:
        return arguments.binary or ""
    profile = ["--release"] if arguments.release else []
    command = ["cargo", "build", "-p", "understudy", "--message-format=json", *profile]
    built = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True)
    messages = [json.loads(line) for line in built.stdout.splitlines()]
    return next(m["executable"] for m in messages if m.get("executable"))


def start(arguments, directory, options):
    directory.mkdir()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    command = [arguments.binary, "--data-dir", f"{directory}/state", "serve", "--listen", address,
               "--grpc", "off", *options]
    server = subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL)
    url = f"http://{address}"
    for _ in range(600):
        if server.poll() is not None:
            raise SystemExit(f"the server ended at once: {' '.join(command)}")
        try:
            urllib.request.urlopen(f"{url}/ready", timeout=1)
            return server, url
        except OSError:
            time.sleep(0.1)
    server.terminate()
    raise SystemExit("the server is not ready after a minute")


def run(url, closed, arguments, loras):
    """Every case, one after the other; the exit code."""
    # What clients must not take from the surroundings.
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["OPENAI_API_KEY"] = "none"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import harness
    import langchain_cases, litellm_cases, openai_cases  # noqa: F401, E401
    import hostile_cases, vllm_cases, wire_cases  # noqa: F401, E401
    if arguments.lm_eval:
        import lm_eval_cases  # noqa: F401

    is_mock = not (arguments.base or arguments.url)
    model = arguments.model or arguments.base or "mock"
    context = harness.Context(url=url, closed=closed, model=model, is_mock=is_mock, loras=loras)
    passed, failed, skipped = 0, 0, 0
    for name, case, needs_mock in harness.CASES:
        if arguments.only not in name:
            continue
        if needs_mock and not is_mock:
            skipped += 1
            continue
        try:
            case(context)
            passed += 1
            print(f"ok      {name}", flush=True)
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
    left_out = f", {skipped} that need the mock engine left out" if skipped else ""
    print(f"\n{passed} cases passed, {failed} failed{left_out}")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
