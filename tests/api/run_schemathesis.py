#!/usr/bin/env python3
"""Tests the API of `vivadrop page` against its OpenAPI document with schemathesis, on Azurite.

Usage: run_schemathesis.py VIVADROP AZURITE [OPTION OF SCHEMATHESIS]...

Needs schemathesis in the same virtual environment. It generates requests, valid and invalid ones, and checks that each
answer is one that the document describes.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
TENANTS = ["9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e10", "9f1c7fd3-1a33-4f2b-9d3c-0a8f6f2d7e11"]

# Requests for each operation and phase. All of them together take about a minute.
MAX_EXAMPLES = "40"
# A request that breaks one rule of the document may be valid nevertheless: an unknown time span, a plan without drops.
EXCLUDED_CHECKS = "positive_data_acceptance"


def free_port():
    """A port that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_open(port, process):
    """Waits up to 30 s until `process` listens; exits if it does not."""
    for _ in range(600):
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        if process.poll() is not None:
            sys.exit(f"a server exited with {process.returncode}")
        time.sleep(0.05)
    sys.exit("a server does not listen")


def exchange(origin, token):
    """Exchanges the one-time token for a key."""
    body = json.dumps({"token": token}).encode()
    request = urllib.request.Request(f"{origin}/api/page/session", body, {"Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        return json.load(answer)["key"]


def main():
    """Starts Azurite and the page, runs schemathesis, and returns its exit code."""
    vivadrop, azurite = (Path(argument).resolve() for argument in sys.argv[1:3])
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        try:
            port = free_port()
            ports = ["--blobPort", str(port), "--queuePort", "0", "--tablePort", "0"]
            options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence"]
            processes.append(subprocess.Popen([azurite, *ports, *options], cwd=folder))
            wait_until_open(port, processes[0])
            endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
            storage = f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={endpoint};"
            # With all settings of a run, so that imports can be asked for.
            settings = {"DropStorage": storage, "TENANTS": ",".join(TENANTS), "PRIVATE_KEYS": Path(folder).as_uri(),
                        "VIVA_API_URL": "http://127.0.0.1:9", "DELIVER_TO": "stdout:", "PATH": os.environ["PATH"]}
            page = subprocess.Popen([vivadrop, "page", "--no-open"], env=settings, stdout=subprocess.PIPE, text=True)
            processes.append(page)
            address = page.stdout.readline().strip()
            origin, token = address.split("/api/page#token=")
            key = exchange(origin, token)
            command = [
                Path(sys.executable).with_name("schemathesis"), "run", f"{origin}/api/view/v1/openapi.json",
                "--url", origin, "--header", f"x-functions-key: {key}", "--header", f"Origin: {origin}",
                "--max-examples", MAX_EXAMPLES, "--exclude-checks", EXCLUDED_CHECKS, "--seed", "1", "--no-color",
                "--generation-database", "none", "--request-timeout", "20", *sys.argv[3:],
            ]
            environment = {**os.environ, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
            return subprocess.run(command, cwd=folder, env=environment, check=False).returncode
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


if __name__ == "__main__":
    sys.exit(main())
