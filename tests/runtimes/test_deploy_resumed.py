"""A deployment that is interrupted keeps what is finished, and goes on from there."""

import zlib

import pytest
from factory import make_artifact, make_device_proof
from typer.testing import CliRunner

from opbench import documents, registry
from opbench.cli import app
from opbench.deploy import making
from opbench.deploy.nouns import Deployment
from opbench.deploy.progress import (
    CaseWritten,
    DeploymentBegun,
    DeploymentProgress,
    RuntimeProven,
    begun,
)
from opbench.deploy.writing import WrittenFile
from opbench.schema import OpbenchError

ASKED = ["nearest", "--shape", "N=1,C=4,H=4,W=4", "--runtime", "onnxruntime", "--opset", "17", "--prove-only"]


@pytest.fixture(scope="module", autouse=True)
def _declared():
    registry.load()


def invoke(*words):
    done = CliRunner().invoke(app, ["deploy", *map(str, words)])
    return done.exit_code, " ".join(done.output.split())


def test_what_was_written_before_an_interruption_is_not_written_again(tmp_path, monkeypatch):
    for needed in ("onnx", "onnxruntime"):
        pytest.importorskip(needed, reason="the extra opbench[deploy] is not installed")
    out = tmp_path / "out"

    def interrupted(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(making, "_proven", interrupted)
        code, said = invoke(*ASKED, "-o", out)
    assert code == 130
    assert "interrupted; 1 contender written, kept in" in said
    assert said.endswith(f"-o {out} --resume")
    files = {path: path.stat().st_mtime_ns for path in (out / "artifacts").glob("*.*n*x*")}
    assert len(files) == 2

    code, said = invoke(*ASKED, "-o", out)
    assert code == 2
    assert "go on with it by --resume" in said
    code, said = invoke(*ASKED, "--opset", "18", "-o", out, "--resume")
    assert code == 2
    assert "is of another run: `opbench deploy nearest" in said

    with monkeypatch.context() as patched:
        patched.setattr(making, "_answers", interrupted)
        code, said = invoke(*ASKED, "-o", out, "--resume")
    assert code == 0, said
    assert files == {path: path.stat().st_mtime_ns for path in files}
    found = documents.read(out / "deploy.json", Deployment)
    assert [one.proof for one in found.proofs] == ["right", "right"]
    assert not (out / "deploy.jsonl").exists()
    code, said = invoke(*ASKED, "-o", out, "--resume")
    assert code == 2
    assert "deploy.json is finished; leave --resume out" in said


def test_resume_needs_the_folder():
    assert invoke(*ASKED, "--resume") == (
        2,
        "opbench: --resume needs -o DIR: the folder of the deployment to go on with",
    )


BEGUN = DeploymentBegun("opbench deploy carafe", {"net.py": "0a"}, {"torch": "2.13.0"})


def written(tmp_path, content=b"graph", **changes):
    """A folder with one file of one contender, and its entry."""
    import hashlib

    (tmp_path / "artifacts").mkdir(exist_ok=True)
    (tmp_path / "artifacts" / "a.onnx").write_bytes(content)
    artifact = make_artifact("a.onnx", sha256=hashlib.sha256(b"graph").hexdigest(), **changes)
    return CaseWritten("case", (WrittenFile(artifact),))


def test_a_file_that_was_changed_meanwhile_is_written_again(tmp_path):
    progress = DeploymentProgress(tmp_path, BEGUN, resume=False)
    progress.append(written(tmp_path))
    again = DeploymentProgress(tmp_path, BEGUN, resume=True)
    assert again.written("case") == written(tmp_path)
    assert again.written("another") is None
    (tmp_path / "artifacts" / "a.onnx").write_bytes(b"grap")
    assert again.written("case") is None


def test_proofs_are_taken_up_for_the_same_files_alone(tmp_path):
    progress = DeploymentProgress(tmp_path, BEGUN, resume=False)
    proof = make_device_proof("a.onnx")
    progress.append(RuntimeProven("onnxruntime", (proof,)))
    again = DeploymentProgress(tmp_path, BEGUN, resume=True)
    assert again.proven("onnxruntime", [make_artifact("a.onnx")]) == (proof,)
    assert again.proven("openvino", [make_artifact("a.onnx")]) is None
    assert again.proven("onnxruntime", [make_artifact("a.onnx", sha256="1" * 64)]) is None
    assert again.proven("onnxruntime", [make_artifact("a.onnx"), make_artifact("b.onnx")]) is None


def test_the_torn_end_of_a_line_is_cut_off_and_what_follows_is_read(tmp_path):
    DeploymentProgress(tmp_path, BEGUN, resume=False).append(written(tmp_path))
    path = tmp_path / "deploy.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"type":"RuntimePro')
    again = DeploymentProgress(tmp_path, BEGUN, resume=True)
    assert again.written("case") is not None
    again.append(RuntimeProven("onnxruntime", (make_device_proof("a.onnx"),)))
    assert DeploymentProgress(tmp_path, BEGUN, resume=True).proven("onnxruntime", [make_artifact("a.onnx")])


UNKNOWN = b'{"type":"Unknown"}'


@pytest.mark.parametrize("line", [b"no json", UNKNOWN, b"%08x %s" % (zlib.crc32(UNKNOWN), UNKNOWN), b"\xff"])
def test_a_damaged_file_is_refused_in_a_sentence(tmp_path, line):
    (tmp_path / "deploy.jsonl").write_bytes(line + b"\n")
    with pytest.raises(OpbenchError, match=r"line 1 is damaged .*: delete the file to start anew"):
        DeploymentProgress(tmp_path, BEGUN, resume=True)


def test_a_file_without_its_beginning_is_refused_in_a_sentence(tmp_path):
    DeploymentProgress(tmp_path, BEGUN, resume=False).append(written(tmp_path))
    path = tmp_path / "deploy.jsonl"
    path.write_bytes(path.read_bytes().partition(b"\n")[2])
    with pytest.raises(OpbenchError, match="does not begin as a journal does; delete the file to start anew"):
        DeploymentProgress(tmp_path, BEGUN, resume=True)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"command": "opbench deploy dysample"}, "`opbench deploy carafe` there, `opbench deploy dysample` here"),
        ({"files": {"net.py": "0b"}}, "net.py is not what it was when the deployment began"),
        ({"versions": {"torch": "2.14.0"}}, "torch 2.13.0 there, 2.14.0 here"),
    ],
)
def test_another_deployment_is_not_gone_on_with(tmp_path, changes, said):
    from msgspec.structs import replace

    DeploymentProgress(tmp_path, BEGUN, resume=False).append(written(tmp_path))
    with pytest.raises(OpbenchError, match="--resume: ") as error:
        DeploymentProgress(tmp_path, replace(BEGUN, **changes), resume=True)
    assert said in str(error.value)


def test_a_deployment_is_known_by_its_files_and_versions(tmp_path):
    (tmp_path / "net.py").write_text("one")
    first = begun("opbench deploy net.py:Net", (str(tmp_path / "net.py"), "nowhere.py"))
    (tmp_path / "net.py").write_text("two")
    second = begun("opbench deploy net.py:Net", (str(tmp_path / "net.py"),))
    assert len(first.files) == len(second.files) == 1
    assert first.files != second.files
    assert {"opbench", "torch"} <= set(first.versions)
