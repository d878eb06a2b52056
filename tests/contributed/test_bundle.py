"""Bundles are packed the same each time, filed by machine, and refused in a sentence where they are hostile."""

import io
import json
import zipfile
import zlib

import pytest
from forging import DIGEST, DOCUMENT, LOG, MANIFEST, files_of, honest_bundle, packed
from msgspec.structs import replace
from typer.testing import CliRunner

from opbench import documents
from opbench.analyse.history.store import read
from opbench.contributed import bundle
from opbench.contributed.bundle import opened, pack
from opbench.contributed.filing import VERIFICATION_SUFFIX, file_submission, verification_of
from opbench.contributed.nouns import Verification
from opbench.contributed.verifying import verify
from opbench.exit_codes import Exit
from opbench.main import application
from opbench.report.dashboard.site import write_site
from opbench.schema import OpbenchError


def opbench(*words):
    return CliRunner().invoke(application(), [str(word) for word in words])


@pytest.fixture(scope="module")
def honest():
    return opened(honest_bundle())


@pytest.fixture
def run_folder(tmp_path, honest):
    folder = tmp_path / "measured"
    folder.mkdir()
    (folder / "run.json").write_bytes(honest.document)
    (folder / LOG).write_text(honest.log)
    return folder


def test_a_run_is_packed_to_the_same_bytes_and_comes_back(run_folder, honest):
    data = pack(run_folder, contributor="me", note="a laptop")
    assert data == pack(run_folder / "run.json", contributor="me", note="a laptop")
    back = opened(data)
    assert (back.document, back.log) == (honest.document, honest.log)
    assert back.manifest.contributor == "me"
    assert set(back.manifest.seeds.values()) == {"0/upsample2x/yolo11n-p5-p4", "0/conv3x3/yolov8n-c2f-p4"}


def test_submit_writes_a_bundle_that_verify_run_files_and_the_dashboard_shows(run_folder, tmp_path):
    made = tmp_path / "mine.bundle.zip"
    done = opbench("submit", run_folder, "-o", made, "--contributor", "me", "--note", "a <laptop>")
    assert done.exit_code == Exit.FINE, done.output
    results = tmp_path / "results"
    done = opbench("verify-run", made, "--in", results, "--within", 0)
    assert done.exit_code == Exit.FINE, done.output
    assert "partly checked: sampling of" in done.output
    assert "not checked: samples that were invented consistently" in done.output
    (path,) = results.glob("devices/*/*.run.json")
    assert len(list(path.parent.iterdir())) == 4
    again = opbench("verify-run", path, "--within", 0)
    assert again.exit_code == Exit.FINE
    assert "visits that the log tells of" in again.output
    page = write_site(results, tmp_path / "site").page.read_text()
    data = json.loads(page.partition('id="data">')[2].partition("</script>")[0])
    (machine,) = data["devices"]["machines"]
    text = data["strings"].__getitem__
    assert text(machine["status"]) == "partly checked"
    assert text(machine["contributor"]) == "me"
    assert text(data["devices"]["yardsticks"][0]) == "copy cpu float32"
    assert all(rate > 0 for rate in machine["rates"])


def test_a_refused_run_is_bad_news_and_is_not_filed(tmp_path, honest):
    files = files_of(honest_bundle())
    raw = json.loads(files[DOCUMENT])
    raw["records"][0]["counts"]["params"] += 1
    (tmp_path / "run.json").write_bytes(json.dumps(raw).encode())
    done = opbench("verify-run", tmp_path / "run.json", "--in", tmp_path / "results", "--within", 0)
    assert done.exit_code == Exit.BAD_NEWS
    assert "SIGN counts" in done.output
    assert not (tmp_path / "results").exists()
    assert opbench("submit", tmp_path, "-o", tmp_path / "x.bundle.zip").exit_code == Exit.BAD_NEWS


def test_what_was_found_is_printed_as_json_too(tmp_path):
    (tmp_path / "mine.bundle.zip").write_bytes(honest_bundle())
    done = opbench("verify-run", tmp_path / "mine.bundle.zip", "--within", 0, "--json")
    found = documents.parse(done.stdout.encode(), Verification)
    assert found.status == "partly checked"


def test_a_verification_of_another_document_counts_for_nothing(tmp_path, honest):
    found = verify(honest, within_seconds=0)
    path = file_submission(honest, found, tmp_path)
    name = path.relative_to(tmp_path).as_posix()
    assert verification_of(tmp_path, name, found.sha256).status == "partly checked"
    assert verification_of(tmp_path, name, "0" * 64) is None
    documents.save(replace(found, sha256="0" * 64), path.with_name(path.name.replace(".run.json", VERIFICATION_SUFFIX)))
    assert verification_of(tmp_path, name, found.sha256) is None
    (one,) = read(tmp_path).runs
    assert one.beside


# --- hostile bundles -------------------------------------------------------------------------------------------------


def with_files(**changes):
    files = files_of(honest_bundle())
    names = {"manifest": MANIFEST, "document": DOCUMENT, "digest": DIGEST, "log": LOG}
    files |= {names.get(name, name): content for name, content in changes.items() if content is not None}
    for name, content in changes.items():
        if content is None:
            del files[names[name]]
    return packed(files)


def twice():
    held = io.BytesIO(honest_bundle())
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(held, "a") as archive:
        archive.writestr(DOCUMENT, b"{}")
    return held.getvalue()


def encrypted():
    data = bytearray(honest_bundle())
    at = data.index(b"PK\x01\x02")
    data[at + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (lambda: packed({"../../evil.json": b"{}"}), "expected no more than"),
        (lambda: packed({"/etc/passwd": b"{}"}), "expected no more than"),
        (lambda: packed({}), "it holds no bundle.json"),
        (lambda: with_files(manifest=None), "it holds no bundle.json"),
        (lambda: with_files(document=None), "it holds no run.json"),
        (lambda: with_files(manifest=b"{}"), "bundle.json: not a valid bundle document"),
        (lambda: with_files(document=b'{"schema_version": 99}'), "SHA-256 differ"),
        (lambda: with_files(digest=None), "where its manifest names"),
        (twice, "holds run.json twice"),
        (encrypted, "is encrypted"),
        (lambda: honest_bundle()[:-100], "not a bundle that can be read"),
        (lambda: honest_bundle()[:2000] + b"\xff" * 50 + honest_bundle()[2050:], ""),
    ],
)  # fmt: skip
def test_a_hostile_bundle_is_refused_in_one_sentence(tmp_path, data, sentence):
    path = tmp_path / "evil.bundle.zip"
    content = data()
    path.write_bytes(content if content.startswith(b"PK\x03\x04") else b"PK\x03\x04" + content)
    done = opbench("verify-run", path)
    assert done.exit_code == Exit.NO_ANSWER, done.output
    assert len(done.stderr.strip().splitlines()) == 1
    assert sentence in done.stderr
    assert [one.name for one in tmp_path.iterdir()] == ["evil.bundle.zip"]


def test_a_bomb_is_refused_before_it_has_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "LARGEST_LOG", 1 << 20)
    files = files_of(honest_bundle())
    files[LOG] = b"\0" * (50 << 20)
    with pytest.raises(OpbenchError, match="unpacks to more than 1 MiB"):
        opened(packed(files, compression=zipfile.ZIP_DEFLATED))


def test_what_a_zip_says_of_its_sizes_is_not_believed():
    data = bytearray(honest_bundle())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (2**31).to_bytes(4, "little")  # the size of the first file, as the directory has it
    assert opened(bytes(data)).document == opened(honest_bundle()).document


def test_no_bundle_at_all_says_what_was_expected(tmp_path):
    (tmp_path / "text.zip").write_text("hello")
    assert "text.zip: not JSON" in opbench("verify-run", tmp_path / "text.zip").stderr
    assert "no such file" in opbench("verify-run", tmp_path / "nothing.zip").stderr
    assert "without run.json" in opbench("verify-run", tmp_path).stderr


def test_a_damaged_stream_is_no_traceback():
    data = zlib.compress(b"x" * 1000)
    with pytest.raises(OpbenchError):
        opened(b"PK\x03\x04" + data)
