#!/usr/bin/env python3
"""Measures how fast the operator's page gets its data: `serve` with many drops in its ledger.

    benches/views.py target/release/vivadrop [--drops 10000] [--rounds 5] [--memory]

Writes the entries of the drops to a folder and to Azurite. Then, in each round, it starts `vivadrop serve` and sends
the requests of the page's first view at the same time. Prints medians, with the smallest values in brackets, in
milliseconds: until the port is open; the first view of a new process, without a copy of the entries in storage and with
one; the current state; and a second view. Also prints the size of the page and, with `--memory`, the resident memory
before, during and after a view. Needs `make tests/azurite/node_modules`.
"""

import argparse
import base64
import concurrent.futures
import contextlib
import datetime
import gzip
import hashlib
import hmac
import http.client
import json
import os
import random
import socket
import statistics
import subprocess
import tempfile
import time
import urllib.parse
import uuid
from pathlib import Path

import sinks

STATE = "vivadrop-state"
VIEWS = ["groups", "weeks?weeks=13", "drops?limit=100", "replays"]
NOW = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)


def entries(count, tenants=200):
    """Entries as `list/` has them: mostly completed drops, some set aside or retrying, over a year."""
    chance = random.Random(1)
    owners = [uuid.UUID(int=chance.getrandbits(128), version=4) for _ in range(tenants)]
    for number in range(count):
        owner = owners[number % tenants]
        since = (NOW - datetime.timedelta(weeks=number // tenants, minutes=chance.randrange(3000))).isoformat()
        run = uuid.UUID(int=chance.getrandbits(128), version=4)
        entry = {"path": f"datasets/{run}/VivaInsights/{owner}", "tenant": str(owner), "state": "completed", "rows": 50_000,
                 "expectedrows": 50_000, "filesdone": 4, "filessetaside": 0, "files": 4, "since": since, "attempts": 0,
                 "over": 1, "blobs": 6, "newest": since, "digest": chance.getrandbits(64)}
        if number % 100 == 3:
            message = f"`part-1.json.gz` is damaged after byte {number}: the gzip stream ends early"
            entry |= {"state": "set-aside", "reason": "damaged", "message": message, "rows": 12_000, "filessetaside": 1}
        yield entry


def name_of(entry):
    return f"list/{hashlib.sha256(entry['path'].encode()).hexdigest()}.json"


def fill_folder(root, all_entries):
    folder = root / STATE / "list"
    folder.mkdir(parents=True)
    for entry in all_entries:
        (root / STATE / name_of(entry)).write_text(json.dumps(entry))


class Azurite:
    """Requests to Azurite, signed with an account SAS."""

    def __init__(self, connection):
        parts = dict(part.split("=", 1) for part in connection.split(";"))
        self.url = urllib.parse.urlsplit(parts["BlobEndpoint"])
        expiry = (NOW + datetime.timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
        fields = [sinks.ACCOUNT, "rwdlac", "b", "sco", "", expiry, "", "https,http", "2021-12-02", "", ""]
        key = base64.b64decode(sinks.KEY)
        signature = base64.b64encode(hmac.digest(key, "\n".join(fields).encode(), "sha256")).decode()
        self.sas = urllib.parse.urlencode({"sv": "2021-12-02", "ss": "b", "srt": "sco", "sp": "rwdlac", "se": expiry,
                                           "spr": "https,http", "sig": signature})

    def put(self, connection, path, body=b"", headers=None, query=""):
        connection.request("PUT", f"{self.url.path}/{STATE}{path}?{query}{self.sas}", body,
                           {"x-ms-version": "2021-12-02", "Content-Length": str(len(body)), **(headers or {})})
        answer = connection.getresponse()
        text = answer.read()
        assert answer.status == 201, (answer.status, text)

    def fill(self, all_entries):
        self.put(http.client.HTTPConnection(self.url.netloc), "", query="restype=container&")
        all_entries = list(all_entries)

        def write(part):
            connection = http.client.HTTPConnection(self.url.netloc)
            for entry in part:
                fields = {f"x-ms-meta-{name}": urllib.parse.quote(str(value), safe=":/-`.+") for name, value in entry.items()}
                self.put(connection, f"/{name_of(entry)}", json.dumps(entry).encode(), {"x-ms-blob-type": "BlockBlob", **fields})

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(write, (all_entries[start::4] for start in range(4))))

    def forget_copy(self):
        connection = http.client.HTTPConnection(self.url.netloc)
        connection.request("DELETE", f"{self.url.path}/{STATE}/list-copy/v1.jsonl.gz?{self.sas}",
                           headers={"x-ms-version": "2021-12-02"})
        connection.getresponse().read()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Serve:
    """`vivadrop serve`; `listening` is the time until its port was open, in milliseconds."""

    def __init__(self, vivadrop, storage):
        self.port = free_port()
        settings = {"DropStorage": storage, "TENANTS": str(uuid.UUID(int=1)), "PRIVATE_KEYS": Path(tempfile.gettempdir()).as_uri(),
                    "VIVA_API_URL": "http://127.0.0.1:9", "DELIVER_TO": "stdout:", "RUST_LOG": "warn",
                    "FUNCTIONS_CUSTOMHANDLER_PORT": str(self.port), "PATH": os.environ["PATH"]}
        began = time.perf_counter()
        self.process = subprocess.Popen([vivadrop, "serve"], env=settings, stdout=subprocess.DEVNULL)
        while True:
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", self.port)) == 0:
                    break
            assert self.process.poll() is None, "serve has ended"
            time.sleep(0.0005)
        self.listening = (time.perf_counter() - began) * 1000

    def view(self, headers=None):
        """Reads all views at once; returns the time in milliseconds, and the age of the oldest answer in seconds."""
        def read(path):
            connection = http.client.HTTPConnection("127.0.0.1", self.port)
            connection.request("GET", f"/api/view/v1/{path}", headers=headers or {})
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status == 200, text
            return datetime.datetime.fromisoformat(json.loads(text)["asOf"])

        with concurrent.futures.ThreadPoolExecutor(len(VIEWS)) as pool:
            began = time.perf_counter()
            oldest = min(pool.map(read, VIEWS))
            took = (time.perf_counter() - began) * 1000
        return took, (datetime.datetime.now(datetime.timezone.utc) - oldest).total_seconds()

    def memory(self, field="VmRSS"):
        """Resident memory in MiB."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))

    def stop(self):
        self.process.terminate()
        self.process.wait()


def measure(name, vivadrop, storage, forget_copy, rounds):
    times = {}

    def note(what, milliseconds):
        times.setdefault(what, []).append(milliseconds)

    for _ in range(rounds):
        forget_copy()
        serve = Serve(vivadrop, storage)
        note("listening", serve.listening)
        note("first view, no copy", serve.view()[0])
        note("second view", serve.view()[0])
        time.sleep(1)  # The copy is written in the background.
        serve.stop()
        serve = Serve(vivadrop, storage)
        note("first view, copy", serve.view()[0])
        note("then the current state", serve.view({"Cache-Control": "no-cache"})[0])
        serve.stop()
    summary = [f"{what} {statistics.median(taken):.0f} ({min(taken):.0f})" for what, taken in times.items()]
    print(f"{name}: {', '.join(summary)}", flush=True)


def memory(name, vivadrop, storage):
    serve = Serve(vivadrop, storage)
    time.sleep(10)
    idle = serve.memory()
    serve.view()
    serve.view({"Cache-Control": "no-cache"})
    time.sleep(1)
    viewed = serve.memory()
    time.sleep(70)
    print(f"{name} memory in MiB: idle {idle:.1f}, viewed {viewed:.1f}, forgotten {serve.memory():.1f}, "
          f"peak {serve.memory('VmHWM'):.1f}", flush=True)
    serve.stop()


def page_weight(vivadrop, storage):
    serve = Serve(vivadrop, storage)

    def get(path):
        connection = http.client.HTTPConnection("127.0.0.1", serve.port)
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        body = answer.read()
        return body, gzip.decompress(body) if answer.getheader("Content-Encoding") == "gzip" else body

    web = Path(__file__).parent.parent / "web"
    files = [str(file.relative_to(web)) for file in web.rglob("*") if file.suffix in (".js", ".css", ".svg")]
    weight = sum(len(get(path)[0]) for path in ["/api/page", *(f"/api/page/{file}" for file in files)])
    print(f"page: {weight / 1024:.1f} KiB compressed in {len(files) + 1} files", flush=True)
    serve.stop()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("vivadrop", type=Path)
    parser.add_argument("--drops", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--memory", action="store_true", help="measure the memory too, which takes three minutes")
    options = parser.parse_args()
    vivadrop = options.vivadrop.resolve()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        fill_folder(folder, entries(options.drops))
        connection = stack.enter_context(sinks.azurite())
        azurite = Azurite(connection)
        azurite.fill(entries(options.drops))

        def forget_copy():
            (folder / STATE / "list-copy/v1.jsonl.gz").unlink(missing_ok=True)

        page_weight(vivadrop, folder.as_uri())
        measure("folder", vivadrop, folder.as_uri(), forget_copy, options.rounds)
        measure("azurite", vivadrop, connection, azurite.forget_copy, options.rounds)
        if options.memory:
            memory("folder", vivadrop, folder.as_uri())
            memory("azurite", vivadrop, connection)


if __name__ == "__main__":
    main()
