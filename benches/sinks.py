#!/usr/bin/env python3
"""Measures delivery on this machine: reads from storage, decrypts, and delivers over loopback.

    benches/sinks.py target/release/vivadrop              every sink, `decode` to /dev/null, an import of attributes, and a
                                                          Python peer
    benches/sinks.py target/release/vivadrop --tune       the effect of IN_FLIGHT and of batch sizes

Creates a drop of a million rows (`--users` people over 13 weeks) in Azurite and in a folder, and a drop of a tenth of that for
cases that Azurite's queues limit. Rounds are interleaved (A B C A B C), so that a machine that becomes slower affects all cases
alike. Prints medians. CPU and memory are those of vivadrop (or the peer) alone, without the receiver and Azurite.
Needs rustc, openssl and `make tests/azurite/node_modules`, and for the peer Python's cryptography.
"""

import argparse
import base64
import contextlib
import datetime
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
# The emulator's well-known key, published by Microsoft.
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
ATTRIBUTES = [
    "Email hours", "Call hours", "After-hours collaboration hours", "Multitasking hours", "Collaboration hours",
    "Uninterrupted hours", "Meeting hours", "Meeting hours with Manager 1:1", "Meeting hours with Skip Level Manager",
    "Internal network size"]
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()


@contextlib.contextmanager
def azurite():
    """Starts a storage account in memory; yields its connection string."""
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
    """A receiver that accepts every message: the program `command`, which prints its port."""

    def __init__(self, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.port = int(self.process.stdout.readline())
        self.url = f"http://127.0.0.1:{self.port}"

    def account(self):
        """A connection string for a storage account whose queues are this receiver."""
        return f"AccountName={ACCOUNT};AccountKey={KEY};BlobEndpoint={self.url};QueueEndpoint={self.url}/{ACCOUNT}"

    def stop(self):
        """Stops the receiver; returns the numbers of connections, messages and bytes."""
        output, _ = self.process.communicate("")
        return tuple(map(int, output.split()))


@dataclass
class Drop:
    """A drop created by `vivadrop simulate`, in both stores."""

    rows: int
    folder: Path
    path: str


class Bench:
    """The settings, stores and keys that all runs share."""

    def __init__(self, binary, work, account):
        self.binary, self.work, self.account, self.runs = binary, work, account, itertools.count()
        self.receiver = work / "receiver"
        subprocess.run(["rustc", "-O", "--edition", "2024", "-o", self.receiver, HERE / "peers/receiver.rs"], check=True)
        self.settings = {
            "PATH": os.environ["PATH"], "PRIVATE_KEYS": (work / "keys").as_uri(), "TENANTS": "",
            "VIVA_API_URL": "http://127.0.0.1:9", "DELIVERY_PATIENCE": "5s",
        }
        (work / "keys").mkdir()
        # Of the receiver that takes the place of Service Bus.
        self.certificate, self.private_key = work / "certificate.pem", work / "private-key.pem"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-addext",
             "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE", "-days", "2",
             "-out", self.certificate, "-keyout", self.private_key],
            check=True, stderr=subprocess.DEVNULL)

    def store(self, name):
        return {"azurite": self.account, "folder": (self.work / "store").as_uri()}[name]

    def drop(self, users, name):
        """Creates a drop in both stores."""
        folder = self.work / name
        simulate = subprocess.run(
            [self.binary, "simulate", "--users", str(users), "--weeks", "13", "--seed", "7", "--keys-in-drop", "--directory",
             "--out", folder, "--upload"],
            env=self.settings | {"DropStorage": self.account}, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            text=True, check=True)
        path = simulate.stdout.splitlines()[0]
        tenant = path.split("/")[-1]
        shutil.copytree(folder / "drop", self.work / "store" / path)
        shutil.copy(folder / "private-key.pem", self.work / "keys" / f"{tenant}.pem")
        tenants = {*filter(None, self.settings["TENANTS"].split(",")), tenant}
        self.settings["TENANTS"] = ",".join(sorted(tenants))
        return Drop(users * 13, folder, path)

    def keys(self, folder):
        """Unwraps the keys of a drop with openssl; returns a file with the keys in hex, for the peer."""
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

    def decode(self, drop, joined=False):
        command = [self.binary, "decode", drop.folder / "drop", "--private-key", drop.folder / "private-key.pem"]
        directory = ["--directory", drop.folder / "directory"] if joined else []
        return lambda: measured(drop.rows, command + directory, self.settings)

    def definitions(self, drop):
        """Definitions of ten attributes, and of a cycle that the drop has all twelve weeks of."""
        decode = [self.binary, "decode", drop.folder / "drop", "--private-key", drop.folder / "private-key.pem",
                  "--row-columns", "MetricDate"]
        # Line by line: the memory of this process would count as that of the processes that it starts.
        with subprocess.Popen(decode, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as rows:
            last = datetime.date.fromisoformat(json.loads(max(rows.stdout))["MetricDate"][:10])
        start, end = (str(last + datetime.timedelta(days)) for days in (-6, 1))
        cycle = {"name": "Cycle", "start": start, "end": end}
        return json.dumps({"version": 1, "programs": [{"name": "Program", "cycles": [cycle]}],
                           "attributes": [{"name": name, "max": [5, 10, 15]} for name in ATTRIBUTES]})

    def imported(self, drop):
        """Runs `vivadrop import` after the drop was delivered."""
        definitions = self.definitions(drop)

        def run():
            receiver = Receiver(self.receiver)
            state = f"state-{next(self.runs)}"
            env = self.settings | {"DropStorage": self.store("folder"), "STATE_CONTAINER": state, "DELIVER_TO": receiver.url}
            measured(drop.rows, [self.binary, "deliver", drop.path], env)
            file = self.work / "store" / state / "attributes" / f"{drop.path.split('/')[-1]}.json"
            file.parent.mkdir(exist_ok=True)
            file.write_text(definitions)
            run = measured(drop.rows, [self.binary, "import", drop.path], env)
            receiver.stop()
            return run
        return run

    def deliver(self, drop, source="azurite", signed=False, queue=None, latency=0, stdout=False, service_bus=False,
                **settings):
        """Runs `vivadrop deliver` with a new ledger and a new receiver, or a new queue in Azurite.

        The receiver answers after `latency` milliseconds."""
        def run():
            tls = [sys.executable, HERE / "peers/tls_receiver.py", self.certificate, self.private_key]
            receiver = Receiver(*tls) if service_bus else Receiver(self.receiver, *[str(latency)] * bool(latency))
            env = self.settings | settings | {
                "DropStorage": self.store(source), "STATE_CONTAINER": f"state-{next(self.runs)}", "DELIVER_TO": receiver.url}
            if signed:
                env["WEBHOOK_SECRET"] = SECRET
            if queue:
                env |= {"DELIVER_TO": f"queue://rows-{next(self.runs)}",
                        "SinkStorage": self.account if queue == "azurite" else receiver.account()}
            if service_bus:
                namespace = f"localhost:{receiver.port}"
                env |= {"DELIVER_TO": f"servicebus://{namespace}/rows", "SSL_CERT_FILE": self.certificate,
                        "ServiceBus": f"Endpoint=sb://{namespace}/;SharedAccessKeyName=send;SharedAccessKey={KEY}"}
            if stdout:
                env["DELIVER_TO"] = "stdout:"
            run = measured(drop.rows, [self.binary, "deliver", drop.path], env)
            run["connections"], run["messages"], run["bytes"] = receiver.stop()
            return run
        return run

    def peer(self, drop):
        file, keys = drop.folder / "drop/part-0.json.gz", self.keys(drop.folder)

        def run():
            receiver = Receiver(self.receiver)
            command = [sys.executable, HERE / "peers/deliver.py", file, keys, receiver.url, SECRET]
            run = measured(drop.rows, command, os.environ)
            run["connections"], run["messages"], run["bytes"] = receiver.stop()
            return run
        return run


def measured(rows, command, env):
    """Runs a command with stdout to /dev/null; returns its wall and CPU time in seconds and its peak memory in MiB."""
    started = time.perf_counter()
    process = subprocess.Popen(list(map(str, command)), env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    errors = process.stderr.read().decode()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{errors}")
    cpu = usage.ru_utime + usage.ru_stime
    return {"rows": rows, "wall": wall, "cpu": cpu, "peak": usage.ru_maxrss / 1024}


def medians(cases, rounds):
    """Runs the cases in interleaved rounds; returns the median of each figure of each case."""
    runs = {name: [] for name in cases}
    for _, (name, run) in itertools.product(range(rounds), cases.items()):
        runs[name].append(run())
    return {name: {figure: statistics.median(run[figure] for run in case_runs) for figure in case_runs[0]}
            for name, case_runs in runs.items()}


def sinks(bench, drop, tenth, rounds):
    cases = {
        "decode to /dev/null": bench.decode(drop),
        "decode, with directory": bench.decode(drop, joined=True),
        "import of ten attributes": bench.imported(drop),
        "folder to stdout": bench.deliver(drop, "folder", stdout=True),
        "folder to webhook": bench.deliver(drop, "folder"),
        "folder to webhook, signed": bench.deliver(drop, "folder", signed=True),
        "Azurite to webhook": bench.deliver(drop),
        "Azurite to webhook, signed": bench.deliver(drop, signed=True),
        "folder to a fast queue": bench.deliver(drop, "folder", queue="fast"),
        "Azurite to its queue": bench.deliver(tenth, queue="azurite"),
        "folder to Service Bus, TLS": bench.deliver(drop, "folder", service_bus=True),
    }
    if importlib.util.find_spec("cryptography"):
        cases["Python to webhook, signed"] = bench.peer(drop)
    results = medians(cases, rounds)
    base = results["decode to /dev/null"]
    print(f"{'':27} {'wall':>8} {'x decode':>9} {'rows/s':>10} {'sent':>11} {'CPU/Mrow':>9} {'peak':>10} {'conns':>6} {'messages':>9}")
    for name, run in results.items():
        times = (run["wall"] / run["rows"]) / (base["wall"] / base["rows"])
        sent = run.get("bytes", 0) / run["wall"] / 1e6
        print(f"{name:27} {run['wall']:6.2f} s {times:8.2f}x {run['rows'] / run['wall']:10,.0f} "
              + (f"{sent:6.0f} MB/s " if sent else " " * 12)
              + f"{run['cpu'] / run['rows'] * 1e6:7.2f} s {run['peak']:6.1f} MiB "
              + (f"{run['connections']:6.0f} {run['messages']:9.0f}" if sent else ""))


def tune(bench, drop, tenth, rounds):
    """Rows per second for values of IN_FLIGHT and batch sizes, for each sink, with and without latency."""
    in_flight = [1, 2, 4, 8, 16, 32]
    batches = [("100", "1048576"), ("500", "262144"), ("500", "1048576"), ("2000", "4194304")]
    deliveries = {
        "webhook": lambda **settings: bench.deliver(drop, "folder", signed=True, **settings),
        "webhook, 20 ms": lambda **settings: bench.deliver(drop, "folder", signed=True, latency=20, **settings),
        "fast queue": lambda **settings: bench.deliver(tenth, "folder", queue="fast", **settings),
        "fast queue, 20 ms": lambda **settings: bench.deliver(tenth, "folder", queue="fast", latency=20, **settings),
        "Azurite's queue": lambda **settings: bench.deliver(tenth, "folder", queue="azurite", **settings),
    }
    cases = {(sink, f"IN_FLIGHT={count}"): deliver(IN_FLIGHT=str(count))
             for sink, deliver in deliveries.items() for count in in_flight}
    cases |= {(sink, f"BATCH {rows} {size}"): deliveries[sink](BATCH_ROWS=rows, BATCH_BYTES=size)
              for sink in ["webhook", "webhook, 20 ms"] for rows, size in batches}
    for (sink, setting), run in medians(cases, rounds).items():
        print(f"{sink:18} {setting:20} {run['rows'] / run['wall']:10,.0f} rows/s {run['cpu'] / run['rows'] * 1e6:6.2f} s/Mrow "
              f"{run['peak']:6.1f} MiB {run['connections']:4.0f} connections")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary", type=Path)
    parser.add_argument("--users", type=int, default=80_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tune", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, azurite() as account:
        bench = Bench(arguments.binary.resolve(), Path(work), account)
        drops = bench.drop(arguments.users, "drop"), bench.drop(arguments.users // 10, "tenth")
        (tune if arguments.tune else sinks)(bench, *drops, arguments.rounds)


if __name__ == "__main__":
    main()
