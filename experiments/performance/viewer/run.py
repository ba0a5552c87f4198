"""How long deepdft-view takes to start, from Enter to a surface, and what it does under fifty clients.

    python experiments/performance/viewer/run.py [--repeats 5] [--clients 50] [--seconds 60] [--output FOLDER]

Needs the extra `view`; the time from Enter to a surface is measured in Chromium (`make browser`, playwright) and is
left out without it. Chromium draws in software here; a graphics card is faster. Let nothing else run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

MOLECULES = {"water": 3, "benzene": 12, "aspirin": 21, "caffeine": 24}
"""Names and numbers of atoms."""
UNDER_LOAD = {"water": "H2O", "methane": "CH4", "ethanol": "C2H6O", "benzene": "C6H6", "acetic acid": "C2H4O2"}
"""Names and formulas, by which mixed-up answers would be noticed."""
FLAGS = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox", "--disable-background-networking"]


READY = "name => document.querySelector('#status').textContent.startsWith(`${name}: ready`)"


class Server:
    """deepdft-view in a process of its own."""

    def __init__(self) -> None:
        began = time.perf_counter()
        command = [sys.executable, "-m", "deepdft.cli.view", "port=0"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        found = None
        while found is None:
            line = self.process.stdout.readline()
            if not line:
                raise RuntimeError("deepdft-view ended")
            found = re.search(r"http://\S+", line)
        self.address = found[0].rstrip("/")
        self.ask("/api/info")
        self.start = time.perf_counter() - began

    def ask(self, path: str, body: dict | None = None) -> bytes:
        """The answer to GET, or to POST of a body as JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.read()

    def predict(self, name: str, spacing: float) -> tuple[dict, list[int]]:
        """A finished prediction, and how many were seen to come before it meanwhile."""
        status = json.loads(self.ask("/api/predictions", {"structure": name, "spacing": spacing}))
        ahead = [status["ahead"]]
        while status["state"] in ("waiting", "running"):
            status = json.loads(self.ask(f"/api/predictions/{status['id']}?wait=5"))
            ahead.append(status["ahead"])
        return status, ahead

    def memory(self) -> float:
        """MB that the process holds now."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text)[1]) / 1024

    def end(self) -> None:
        """Stop it."""
        self.process.terminate()
        self.process.wait(30)


def times(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def through_the_interface(server: Server, repeats: int) -> dict[str, dict[str, float]]:
    """Seconds from a request to a surface, without a browser."""
    found: dict[str, list[float]] = {name: [] for name in MOLECULES}
    for _ in range(repeats):
        for name in MOLECULES:
            began = time.perf_counter()
            status, _ = server.predict(name, 0.2)
            server.ask(f"/api/predictions/{status['id']}/surface?level=0.3")
            found[name].append(time.perf_counter() - began)
    return {name: times(values) for name, values in found.items()}


def in_a_browser(server: Server, repeats: int) -> dict[str, dict[str, float]] | None:
    """Seconds from Enter to a drawn surface, on a page that is open."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        return None
    chromium = shutil.which("chromium")
    if chromium is None:
        return None
    found: dict[str, list[float]] = {name: [] for name in MOLECULES}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 800})
        page.goto(server.address)
        page.wait_for_selector("body[data-ready=true]")
        for repeat in range(repeats + 1):
            for name in MOLECULES:
                page.fill("#structure", name)
                began = time.perf_counter()
                page.press("#structure", "Enter")
                page.wait_for_function(
                    "name => document.querySelector('#status').textContent.startsWith(`${name}: ready`)", arg=name
                )
                if repeat:  # the first compiles the page's code
                    found[name].append(time.perf_counter() - began)
        browser.close()
    return {name: times(values) for name, values in found.items()}


def under_load(server: Server, clients: int, seconds: float) -> dict[str, object]:
    """Clients that each ask for one prediction and its surface after another."""
    counts: Counter[str] = Counter()
    waits: list[float] = []
    lock, end, peak = threading.Lock(), time.monotonic() + seconds, [server.memory()]

    def client(seed: int) -> None:
        choose = random.Random(seed)
        while time.monotonic() < end:
            name = choose.choice(list(UNDER_LOAD))
            began = time.perf_counter()
            try:
                status, ahead = server.predict(name, 0.3)
                mesh = server.ask(f"/api/predictions/{status['id']}/surface?level=0.3")
                right = (
                    status["state"] == "done" and status["result"]["formula"] == UNDER_LOAD[name] and len(mesh) > 1000
                )
                outcome = "done" if right else "wrong"
                if ahead != sorted(ahead, reverse=True):
                    outcome = "overtaken"
            except urllib.error.HTTPError as error:
                outcome = f"refused with {error.code}"
                time.sleep(0.2)
            except OSError:
                outcome = "lost"
            with lock:
                counts[outcome] += 1
                if outcome == "done":
                    waits.append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(seed,)) for seed in range(clients)]
    before = server.memory()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        peak.append(server.memory())
        time.sleep(0.5)
    for thread in threads:
        thread.join()
    quantiles = statistics.quantiles(waits, n=20)
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": dict(counts),
        "wait_median_s": statistics.median(waits),
        "wait_95_percent_s": quantiles[-1],
        "memory_before_MB": before,
        "memory_peak_MB": max(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent)
    arguments = parser.parse_args()
    starts = []
    for _ in range(3):
        server = Server()
        starts.append(server.start)
        server.end()
    server = Server()
    try:
        server.predict("caffeine", 0.2)  # warm
        results = {
            "machine": {
                "processor": platform.processor() or platform.machine(),
                "cores": os.cpu_count(),
                "load": os.getloadavg(),
            },
            "start_s": times(starts),
            "request_to_surface_s": through_the_interface(server, arguments.repeats),
            "enter_to_surface_s": in_a_browser(server, arguments.repeats),
            "load": under_load(server, arguments.clients, arguments.seconds),
        }
    finally:
        server.end()
    arguments.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(results, indent=2)
    (arguments.output / "results.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
