"""The metrics by the programs that read them: promtool, a Prometheus that scrapes, node_exporter's textfile collector.

Debian's packages `prometheus` and `prometheus-node-exporter` have them. They are programs of their own, so this is for
the night, and skipped where one isn't installed.
"""

import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
import urllib.parse
import urllib.request

import pytest
from exported import PANEL, evil_run, failed_run, one_round_run, small_run, two_methods_run

from opbench.report.exports import contents

pytestmark = pytest.mark.nightly

RUNS = pytest.mark.parametrize("run", [small_run, evil_run, one_round_run, two_methods_run, failed_run])
TYPES = {
    "prometheus": "text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": "application/openmetrics-text; version=1.0.0; charset=utf-8",
}
CASE = f"{PANEL}/carafe[cpu]"


def made(runs, name):
    (content,) = contents(runs, name, "out")[0].values()
    return content


def program(name):
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@contextlib.contextmanager
def running(*command):
    """A server on this machine alone, until it answers no more questions."""
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def asked(url, until, process, seconds=60):
    """What a server answers, once `until` is content with it."""
    end, seen = time.monotonic() + seconds, None
    while time.monotonic() < end and process.poll() is None:
        with contextlib.suppress(OSError, ValueError):
            with urllib.request.urlopen(url, timeout=5) as answer:
                seen = answer.read().decode()
            if until(seen):
                return seen
        time.sleep(0.1)
    raise AssertionError(f"{url}: {seen} ({process.poll()})")


@RUNS
def test_promtool_has_nothing_to_say(run):
    done = subprocess.run(
        [program("promtool"), "check", "metrics"], input=made([run()], "prometheus"), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@RUNS
def test_promtool_makes_blocks_of_several_runs(run, tmp_path):
    runs = [run(), small_run(started="2025-01-03T03:04:05+00:00")]
    (tmp_path / "runs.om").write_bytes(made(runs, "openmetrics-backfill"))
    command = [program("promtool"), "tsdb", "create-blocks-from", "openmetrics", "runs.om", "data"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (tmp_path / "data" / "wal").mkdir(exist_ok=True)  # a database has one, if it is empty
    command = [program("promtool"), "tsdb", "dump", '--match={__name__="opbench_latency_ratio"}', "data"]
    dumped = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    moments = {line.split()[-1] for line in dumped.splitlines() if "carafe[cpu]" in line}
    assert "1735873445000" in moments


@pytest.mark.parametrize("name", TYPES)
def test_a_prometheus_scrapes_it(name, tmp_path):
    content = made([small_run()], name)

    class Target(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", TYPES[name])
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    target = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Target)
    threading.Thread(target=target.serve_forever, daemon=True).start()
    job = {
        "job_name": "opbench",
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "static_configs": [{"targets": [f"127.0.0.1:{target.server_port}"]}],
    }
    (tmp_path / "prometheus.yml").write_text(json.dumps({"scrape_configs": [job]}))
    port = free_port()
    server = running(
        program("prometheus"), f"--config.file={tmp_path}/prometheus.yml", f"--storage.tsdb.path={tmp_path}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    )  # fmt: skip
    question = urllib.parse.quote('opbench_latency_seconds{contender="carafe[cpu]"}')
    with server as process:
        url = f"http://127.0.0.1:{port}/api/v1/query?query={question}"
        found = json.loads(asked(url, lambda seen: json.loads(seen)["data"]["result"], process))
    target.shutdown()
    target.server_close()
    (series,) = found["data"]["result"]
    assert series["metric"]["case"] == CASE
    assert float(series["value"][1]) == pytest.approx(3e-3, rel=0.1)


@RUNS
def test_the_textfile_collector_takes_it(run, tmp_path):
    (tmp_path / "opbench.prom").write_bytes(made([run()], "prometheus"))
    port = free_port()
    exporter = running(
        program("prometheus-node-exporter"), "--collector.disable-defaults", "--collector.textfile",
        f"--collector.textfile.directory={tmp_path}", f"--web.listen-address=127.0.0.1:{port}",
    )  # fmt: skip
    with exporter as process:
        seen = asked(f"http://127.0.0.1:{port}/metrics", lambda seen: "node_textfile_scrape_error" in seen, process)
    assert "\nnode_textfile_scrape_error 0\n" in seen
    ours = {line for line in made([run()], "prometheus").decode().splitlines() if line.startswith("opbench_cases")}
    assert ours <= set(seen.splitlines())
