#!/usr/bin/env python3
"""Times delivery end to end on this machine: storage in, rows decrypted, loopback out.

    benches/sinks.py target/release/vivadrop              every sink beside `decode` to /dev/null, and a Python peer
    benches/sinks.py target/release/vivadrop --tune       what IN_FLIGHT and batch sizes do

Makes a drop of a million rows (`--users` people over 13 weeks) in Azurite and in a folder, and a tenth of one for what
Azurite's own queues bound. Rounds go A B C A B C, so that a machine that grows slower meanwhile is unfair to none; what is
printed are medians. CPU and memory are those of the one process alone: neither the receiver's nor Azurite's.
Needs rustc and `make tests/azurite/node_modules`, and for the peer openssl and Python's cryptography.
"""

import argparse
import base64
import contextlib
import importlib.util
import itertools
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ACCOUNT = "devstoreaccount1"
# Published with the emulator; it opens nothing else.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@contextlib.contextmanager
def azurite():
    """A storage account in memory; gives its connection string."""
    command = ["node", HERE.parent / "tests/azurite/serve.js", "--silent", "--skipApiVersionCheck", "--disableTelemetry",
               "--loose", "--inMemoryPersistence", "--blobPort", "0", "--queuePort", "0", "--tablePort", "0"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        def endpoint(service):
            line = next(line for line in server.stdout if line.startswith(f"Azurite {service} service is successfully"))
            return f"{line.split()[-1].rstrip('/')}/{ACCOUNT}"

        blob, queue = endpoint("Blob"), endpoint("Queue")
        yield f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={blob};QueueEndpoint={queue}"
        server.stdin.close()


class Receiver:
    """Takes everything, after so many milliseconds."""

    def __init__(self, program, latency=0):
        command = [program] + [str(latency)] * bool(latency)
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"http://127.0.0.1:{int(self.process.stdout.readline())}"

    def account(self):
        """The receiver, taken for a storage account's queues."""
        return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};QueueEndpoint={self.url}/{ACCOUNT}"

    def end(self):
        """How many connections, messages and bytes there were."""
        said, _ = self.process.communicate("")
        return tuple(map(int, said.split()))


@dataclass
class Drop:
    """What `vivadrop simulate` made, in both stores."""

    rows: int
    folder: Path
    path: str


class Bench:
    """What all runs need."""

    def __init__(self, binary, work, account):
        self.binary, self.work, self.account, self.runs = binary, work, account, itertools.count()
        self.receiver = work / "receiver"
        subprocess.run(["rustc", "-O", "--edition", "2024", "-o", self.receiver, HERE / "peers/receiver.rs"], check=True)
        self.settings = {
            "PATH": os.environ["PATH"], "PRIVATE_KEYS": (work / "keys").as_uri(), "TENANTS": "",
            "VIVA_API_URL": "http://127.0.0.1:9", "DELIVERY_PATIENCE": "5s",
        }
        (work / "keys").mkdir()

    def store(self, name):
        return {"azurite": self.account, "folder": (self.work / "store").as_uri()}[name]

    def drop(self, users, name):
        """Makes a drop, and lays it into both stores."""
        folder = self.work / name
        made = subprocess.run(
            [self.binary, "simulate", "--users", str(users), "--weeks", "13", "--seed", "7", "--keys-in-drop", "--out",
             folder, "--upload"],
            env=self.settings | {"DropStorage": self.account}, stderr=subprocess.PIPE, text=True, check=True)
        path = made.stderr.split("`")[-2]
        tenant = path.split("/")[-1]
        shutil.copytree(folder / "drop", self.work / "store" / path)
        shutil.copy(folder / "private-key.pem", self.work / "keys" / f"{tenant}.pem")
        tenants = {*filter(None, self.settings["TENANTS"].split(",")), tenant}
        self.settings["TENANTS"] = ",".join(sorted(tenants))
        return Drop(users * 13, folder, path)

    def keys(self, folder):
        """The keys of a drop in hex, unwrapped by openssl, for the peer."""
        keys = {}
        for key in json.loads((folder / "decryption-keys.json").read_text())["DecryptionKeys"]:
            unwrap = ["openssl", "pkeyutl", "-decrypt", "-inkey", folder / "private-key.pem", "-pkeyopt",
                      "rsa_padding_mode:oaep"]
            plain = subprocess.run(unwrap, input=base64.b64decode(key["Value"]), stdout=subprocess.PIPE, check=True).stdout
            name = key["DecryptionKeyType"].lower()
            keys |= {f"{name}Key": plain.hex(), f"{name}Iv": base64.b64decode(key["IV"]).hex()}
        file = folder / "keys.json"
        file.write_text(json.dumps(keys))
        return file

    def decode(self, drop):
        command = [self.binary, "decode", drop.folder / "drop", "--private-key", drop.folder / "private-key.pem"]
        return lambda: measured(drop.rows, command, self.settings)

    def deliver(self, drop, source="azurite", signed=False, queue=None, latency=0, stdout=False, **settings):
        """One `vivadrop deliver` with a ledger of its own, to a receiver of its own unless `queue` is Azurite's."""
        def run():
            receiver = Receiver(self.receiver, latency)
            env = self.settings | settings | {
                "DropStorage": self.store(source), "STATE_CONTAINER": f"state-{next(self.runs)}", "DELIVER_TO": receiver.url}
            if signed:
                env["WEBHOOK_SECRET"] = SECRET
            if queue:
                env |= {"DELIVER_TO": f"queue://rows-{next(self.runs)}",
                        "SinkStorage": self.account if queue == "azurite" else receiver.account()}
            if stdout:
                env["DELIVER_TO"] = "stdout:"
            run = measured(drop.rows, [self.binary, "deliver", drop.path], env)
            run["connections"], run["messages"], run["bytes"] = receiver.end()
            return run
        return run

    def peer(self, drop):
        file, keys = drop.folder / "drop/part-0.json.gz", self.keys(drop.folder)

        def run():
            receiver = Receiver(self.receiver)
            command = [sys.executable, HERE / "peers/deliver.py", file, keys, receiver.url, SECRET]
            run = measured(drop.rows, command, os.environ)
            run["connections"], run["messages"], run["bytes"] = receiver.end()
            return run
        return run


def measured(rows, command, env):
    """Runs a command with stdout to /dev/null: wall and CPU seconds, and the most memory it had."""
    begun = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    said = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - begun
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{said}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"rows": rows, "wall": wall, "cpu": cpu, "peak": usage.ru_maxrss / 1024}


def medians(cases, rounds):
    """Runs the cases in turns; gives the median of each figure of each case."""
    runs = {name: [] for name in cases}
    for _, (name, run) in itertools.product(range(rounds), cases.items()):
        runs[name].append(run())
    return {name: {figure: statistics.median(run[figure] for run in all_of) for figure in all_of[0]}
            for name, all_of in runs.items()}


def sinks(bench, drop, tenth, rounds):
    cases = {
        "decode to /dev/null": bench.decode(drop),
        "folder to stdout": bench.deliver(drop, "folder", stdout=True),
        "folder to webhook": bench.deliver(drop, "folder"),
        "folder to webhook, signed": bench.deliver(drop, "folder", signed=True),
        "Azurite to webhook": bench.deliver(drop),
        "Azurite to webhook, signed": bench.deliver(drop, signed=True),
        "folder to a free queue": bench.deliver(drop, "folder", queue="free"),
        "Azurite to its queue": bench.deliver(tenth, queue="azurite"),
    }
    if importlib.util.find_spec("cryptography"):
        cases["Python to webhook, signed"] = bench.peer(drop)
    found = medians(cases, rounds)
    base = found["decode to /dev/null"]
    print(f"{'':27} {'wall':>8} {'x decode':>9} {'rows/s':>10} {'sent':>11} {'CPU/Mrow':>9} {'peak':>10} {'conns':>6} {'messages':>9}")
    for name, of in found.items():
        times = (of["wall"] / of["rows"]) / (base["wall"] / base["rows"])
        sent = of.get("bytes", 0) / of["wall"] / 1e6
        print(f"{name:27} {of['wall']:6.2f} s {times:8.2f}x {of['rows'] / of['wall']:10,.0f} "
              + (f"{sent:6.0f} MB/s " if sent else " " * 12)
              + f"{of['cpu'] / of['rows'] * 1e6:7.2f} s {of['peak']:6.1f} MiB "
              + (f"{of['connections']:6.0f} {of['messages']:9.0f}" if sent else ""))


def tune(bench, drop, tenth, rounds):
    """Rows a second by what is set, for each sink, near and far."""
    in_flight = [1, 2, 4, 8, 16, 32]
    batches = [("100", "1048576"), ("500", "262144"), ("500", "1048576"), ("2000", "4194304")]
    places = {
        "webhook": lambda **settings: bench.deliver(drop, "folder", signed=True, **settings),
        "webhook, 20 ms": lambda **settings: bench.deliver(drop, "folder", signed=True, latency=20, **settings),
        "free queue": lambda **settings: bench.deliver(tenth, "folder", queue="free", **settings),
        "free queue, 20 ms": lambda **settings: bench.deliver(tenth, "folder", queue="free", latency=20, **settings),
        "Azurite's queue": lambda **settings: bench.deliver(tenth, "folder", queue="azurite", **settings),
    }
    cases = {(place, f"IN_FLIGHT={count}"): run(IN_FLIGHT=str(count))
             for place, run in places.items() for count in in_flight}
    cases |= {(place, f"BATCH {rows} {size}"): places[place](BATCH_ROWS=rows, BATCH_BYTES=size)
              for place in ["webhook", "webhook, 20 ms"] for rows, size in batches}
    for (place, setting), of in medians(cases, rounds).items():
        print(f"{place:18} {setting:20} {of['rows'] / of['wall']:10,.0f} rows/s {of['cpu'] / of['rows'] * 1e6:6.2f} s/Mrow "
              f"{of['peak']:6.1f} MiB {of['connections']:4.0f} connections")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--users", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tune", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, azurite() as account:
        bench = Bench(given.binary.resolve(), Path(work), account)
        drops = bench.drop(given.users, "drop"), bench.drop(given.users // 10, "tenth")
        (tune if given.tune else sinks)(bench, *drops, given.rounds)


if __name__ == "__main__":
    main()
