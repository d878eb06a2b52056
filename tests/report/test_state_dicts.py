"""`opbench show --weights` reads files of anybody: a malformed one is a sentence, and takes no more than it holds."""

import io
import random
import resource
import time
import zipfile

import pytest
import torch

from opbench.operators.carafe import CARAFE, show
from opbench.operators.common.show import Recorder
from opbench.report.show import weights
from opbench.report.show.image import features, synthetic
from opbench.schema import OpbenchError

MODULE = CARAFE(8, compressed_channels=4)


def saved(content, **options):
    out = io.BytesIO()
    torch.save(content, out, **options)
    return out.getvalue()


def loaded(path):
    return weights.loaded("carafe", show.MAKERS, path, "", Recorder(show.shift_add))


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.pt"


FORMATS = {"zip": saved(MODULE.state_dict()), "old": saved(MODULE.state_dict(), _use_new_zipfile_serialization=False)}


@pytest.mark.parametrize("name", FORMATS)
def test_what_torch_saves_is_read(name, file):
    file.write_bytes(FORMATS[name])
    assert loaded(file).up_kernel == MODULE.up_kernel


def mutated(data, draw):
    """One to eight bytes changed, or a part cut out, doubled or taken from elsewhere."""
    kind = draw.randrange(4)
    a, b = sorted((draw.randrange(len(data)), draw.randrange(len(data))))
    if kind == 0:
        return data[:a] + data[b:]
    if kind == 1:
        return data[:b] + data[a:]
    changed = bytearray(data)
    # What is read before the numbers: names, sizes, the program of the pickle.
    early = min(len(data), 2500)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(early)] = draw.choice((0, 255, 46, 40, 41, 82, 113, draw.randrange(256)))
    return bytes(changed)


@pytest.mark.parametrize("name", FORMATS)
def test_every_malformed_file_is_a_sentence(name, file):
    draw = random.Random(name)
    said = []
    for _ in range(300):
        file.write_bytes(mutated(FORMATS[name], draw))
        try:
            loaded(file)
        except OpbenchError as error:
            said.append(str(error))
    assert len(said) > 100
    assert not [sentence for sentence in said if len(sentence) > 2_000 or "\n" in sentence]


def repacked(compression):
    """The file's parts, packed again."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(FORMATS["zip"])) as parts, zipfile.ZipFile(out, "w", compression) as packed:
        for part in parts.infolist():
            packed.writestr(part.filename, parts.read(part))
    return out.getvalue()


def larger(**changes):
    state = MODULE.state_dict()
    return saved({**state, **changes})


def sparse():
    with torch.sparse.check_sparse_tensor_invariants():
        return torch.sparse_coo_tensor(torch.zeros(2, 1, dtype=torch.long), [1.0], (10**9, 10**9))


BOMBS = {
    "compressed": (repacked(zipfile.ZIP_DEFLATED), "compressed parts"),
    "one number a billion times": (
        larger(**{"content_encoder.weight": torch.zeros(1).expand(100, 40_000, 40, 40)}), "would take 25,6",
    ),
    "sparse": (
        larger(**{"content_encoder.weight": sparse()}),
        "",
    ),
    "a layer that would be as wide as the other says": (
        larger(**{"channel_compressor.weight": torch.zeros(4000, 1, 1, 1)}), "got (4,), expected (4000,)",
    ),
    "kernels that no picture has room for": (
        saved({**CARAFE(1, up_kernel=43, encoder_kernel=1, compressed_channels=1).state_dict()}), "43 x 43 taps",
    ),
    "complex numbers": (larger(**{"channel_compressor.bias": torch.zeros(4, dtype=torch.complex64)}), "no plain"),
    "keys that are none": (saved({("a", 1): torch.zeros(1), 3: torch.zeros(1)}), "no carafe in it"),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_file_takes_no_more_than_it_holds(name, file):
    content, expected = BOMBS[name]
    file.write_bytes(content)
    before, begin = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(OpbenchError) as caught:
        loaded(file)
    assert expected in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
    assert time.process_time() - begin < 5


def test_more_channels_than_any_network_has_are_refused():
    with pytest.raises(OpbenchError, match="100,000 channels"):
        features(synthetic(), 100_000, 0)
