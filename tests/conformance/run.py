#!/usr/bin/env python3
"""Real clients against a running server: openai, litellm, langchain-openai, and vLLM's endpoints.

    python3 tests/conformance/run.py                      # the mock engine; makes its own venv
    python3 tests/conformance/run.py --base smollm2-135m-instruct
    python3 tests/conformance/run.py --url http://host:8700 --model NAME

Exits 0 when every case passes, and prints how many there were.
"""

import argparse
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
        return subprocess.call([python(arguments), __file__, "--inside", *sys.argv[1:]])
    sys.path.insert(0, str(HERE))
    with tempfile.TemporaryDirectory() as directory:
        loras = pathlib.Path(directory) / "loras"
        loras.mkdir()
        server, url = (None, arguments.url) if arguments.url else start(arguments, directory)
        try:
            return run(url, arguments, loras)
        finally:
            if server:
                server.terminate()
                server.wait()


def parse():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--binary", default=str(ROOT / "target/debug/understudy"))
    parser.add_argument("--base", help="a base model instead of the mock engine")
    parser.add_argument("--url", help="a server that runs already")
    parser.add_argument("--model", help="what to ask that server for")
    parser.add_argument("--venv", default=str(ROOT / ".venv/conformance"))
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def python(arguments):
    """The interpreter of a venv that has the clients."""
    interpreter = pathlib.Path(arguments.venv) / "bin/python"
    if not interpreter.exists():
        venv.create(arguments.venv, with_pip=True)
        requirements = str(HERE / "requirements.txt")
        subprocess.check_call([interpreter, "-m", "pip", "install", "-q", "-r", requirements])
    return str(interpreter)


def start(arguments, directory):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    engine = ["--base", arguments.base] if arguments.base else ["--mock-engine"]
    command = [arguments.binary, "--data-dir", f"{directory}/state", "serve", "--listen", address,
               "--allow-adapter-updates", "--adapter-root", f"{directory}/loras", *engine]
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


def run(url, arguments, loras):
    # What clients must not take from the surroundings.
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ["OPENAI_API_KEY"] = "none"
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    import harness
    import langchain_cases, litellm_cases, openai_cases, vllm_cases  # noqa: F401, E401

    is_mock = not (arguments.base or arguments.url)
    model = arguments.model or arguments.base or "mock"
    context = harness.Context(url=url, model=model, is_mock=is_mock, loras=loras)
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
            print(f"ok      {name}")
        except Exception:
            failed += 1
            print(f"FAILED  {name}\n{traceback.format_exc()}")
    left_out = f", {skipped} that need the mock engine left out" if skipped else ""
    print(f"\n{passed} cases passed, {failed} failed{left_out}")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
