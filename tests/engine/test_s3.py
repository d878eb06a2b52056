"""A real S3 server on this machine: runs are delivered to it, merged from it, kept, shown and resumed there."""

import json
import os
import uuid

import pytest
from factory import make_environment, make_run
from test_delivery import delivered, journal, working_folder
from typer.testing import CliRunner

from opbench import documents
from opbench.engine.merging import merged
from opbench.engine.parts import collected
from opbench.exit_codes import Exit
from opbench.main import application
from opbench.schema import OpbenchError, Run
from opbench.storage.address import address_of
from opbench.storage.mirror import fetched
from opbench.storage.objects import ObjectStore

pytest.importorskip("s3fs", reason="s3fs is not installed (extra `store`)")
moto = pytest.importorskip("moto.server", reason="moto is not installed (extra `dev`)")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


@pytest.fixture(scope="module")
def server():
    running = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": "http://{}:{}".format(*running.get_host_and_port()),
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "no_proxy": "127.0.0.1",
    }
    yield
    os.environ.clear()
    os.environ.update(before)
    running.stop()


@pytest.fixture
def bucket(server, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = f"b-{uuid.uuid4().hex[:12]}"
    import boto3

    boto3.client("s3").create_bucket(Bucket=name)
    return f"s3://{name}"


def opbench(*words):
    return CliRunner().invoke(application(), [str(word) for word in words])


def test_an_object_comes_back_and_a_listing_names_it(bucket):
    store = ObjectStore.at(f"{bucket}/runs")
    assert store.read("a/b.json") is None
    assert store.names() == []
    assert store.add("a/b.json", b"{}")
    assert not store.add("a/b.json", b"{}")
    assert store.read("a/b.json") == b"{}"
    assert store.names() == ["a/b.json"]
    assert store.sizes() == {"a/b.json": 2}
    assert dict(store.read_all(["a/b.json", "c"])) == {"a/b.json": b"{}", "c": None}


def test_parts_are_merged_from_there_by_anybody_and_read_there(bucket, tmp_path):
    plan, entries = journal(1)
    store = ObjectStore.at(f"{bucket}/run")
    delivered(store, working_folder(tmp_path / "run", entries), plan)
    done = opbench("merge", f"{bucket}/run")
    assert done.exit_code == Exit.FINE, done.output
    assert "2 records, 0 visits of panels missing" in done.output
    (one,) = merged(collected(store), command=f"opbench merge {bucket}/run")
    assert documents.read(f"{bucket}/run", Run) == one.run
    assert documents.read(f"{bucket}/run/run.json") == one.run
    done = opbench("export", f"{bucket}/run/run.json", "--format", "csv", "-o", tmp_path / "rows.csv")
    assert done.exit_code == Exit.FINE, done.output


def test_a_history_and_its_dashboard_live_there(bucket, tmp_path):
    documents.save(make_run(), tmp_path / "run.json")
    results = f"{bucket}/results"
    assert "kept: " in opbench("keep", tmp_path / "run.json", "--in", results).output
    assert "already there: " in opbench("keep", tmp_path / "run.json", "--in", results).output
    assert opbench("keep", tmp_path / "run.json", "--in", results, "--raw", 1).exit_code == Exit.NO_ANSWER
    done = opbench("dashboard", results, "-o", f"{bucket}/site")
    assert done.exit_code == Exit.FINE, done.output
    assert f"dashboard: {bucket}/site/index.html" in done.output
    page = ObjectStore.at(f"{bucket}/site").read("index.html").decode()
    assert len(json.loads(page.partition('id="data">')[2].partition("</script>")[0])["runs"]) == 1
    other = make_run(environment=make_environment(cpu="Another"), started="2026-01-02T03:04:05+00:00")
    documents.save(other, tmp_path / "other.json")
    opbench("keep", tmp_path / "other.json", "--in", results)
    assert len(list(fetched(results).rglob("*.run.json"))) == 2


def test_what_can_t_be_had_is_said_in_one_line(bucket, tmp_path):
    for words, sentence in (
        (["export", f"{bucket}/nothing", "--format", "csv", "-o", tmp_path / "x"], "nothing lies there"),
        (["dashboard", f"{bucket}/nothing", "-o", tmp_path / "site"], "holds no document"),
        (["merge", f"{bucket}/nothing"], "holds no part of a run"),
        (["merge", tmp_path], "not an address"),
        (["keep", tmp_path, "--in", "s3://no-such-bucket/results"], "without run.json"),
        (["dashboard", "nowhere://x/y", "-o", tmp_path / "site"], "nowhere"),
    ):
        done = opbench(*words)
        assert done.exit_code == Exit.NO_ANSWER, done.output
        assert len(done.stderr.strip().splitlines()) == 1, done.stderr
        assert sentence in done.stderr
    with pytest.raises(OpbenchError, match="can't be written"):
        ObjectStore("s3://no-such-bucket", ObjectStore.at(bucket)._files, "no-such-bucket", lambda _: None).write(
            "a", b""
        )


@pytest.mark.parametrize(
    ("path", "address"),
    [
        ("s3:/bucket/runs", "s3://bucket/runs"),
        ("s3://bucket/runs/", "s3://bucket/runs"),
        ("memory://x", "memory://x"),
        ("file:/tmp/x", "file:///tmp/x"),
        ("results/run.json", None),
        ("C:/runs", None),
        ("a:b/c", None),
        ("/abs/s3:/x", None),
    ],
)
def test_an_address_is_told_from_a_path(path, address):
    assert address_of(path) == address


@pytest.mark.nightly
def test_a_run_is_measured_into_a_bucket_and_resumed_from_it(bucket, tmp_path, monkeypatch):
    suite = tmp_path / "tiny.toml"
    suite.write_text(
        '[timing]\nprecision = 0.2\nbudget_seconds = 0.2\nreplicas = 1\n[[workload]]\ntask = "upsample2x"\n'
        'name = "tiny"\nsource = "-"\ndims = {N = 1, C = 8, H = 4, W = 4}\ncontenders = ["bilinear[torch]"]\n'
    )
    where = f"{bucket}/run"
    words = ["run", "--suite", suite, "--share-cpu", "-o", where]
    done = opbench(*words)
    assert done.exit_code == Exit.FINE, done.output
    run = documents.read(where, Run)
    assert [record.outcome for record in run.records] == ["ok"] * 4
    names = ObjectStore.at(where).names()
    assert {"run.json", "report.md", "run.log"} <= set(names)
    assert sum("/panel-" in name for name in names) == 2
    assert "resume it with --resume" in opbench(*words).stderr
    again = opbench(*words, "--resume")
    assert again.exit_code == Exit.FINE, again.output
    assert documents.read(where, Run).records == run.records
