"""What a GPU says of itself, by NVML and by nvidia-smi: the same names and units, nothing where it is silent."""

import sys
import types

import pytest

from opbench.engine import gpu

ANSWERS = {
    "driver_version": "580.65.06",
    "clocks.sm": "1980",
    "clocks.mem": "2619",
    "clocks.max.sm": "1980",
    "clocks.max.mem": "2619",
    "power.draw": "118.43",
    "power.limit": "700.00",
    "temperature.gpu": "31",
    "ecc.mode.current": "Enabled",
    "persistence_mode": "Enabled",
    "mig.mode.current": "Disabled",
    "pstate": "P0",
}
EXPECTED = {name: ANSWERS[field] for name, field in gpu.FIELDS.items()}

SMI = """#!{python}
import sys
answers = {answers!r}
asked = dict(argument.lstrip("-").partition("=")[::2] for argument in sys.argv[1:])
assert asked["id"] == "GPU-0" and asked["format"] == "csv,noheader,nounits", asked
fields = asked["query-gpu"].split(",")
if set(fields) - set(answers):
    print("Field is not a valid field to query.")
    sys.exit(2)
print(", ".join(answers[field] for field in fields))
"""


@pytest.fixture
def smi(tmp_path, monkeypatch):
    """Puts an nvidia-smi that gives these answers on PATH, and takes NVML away."""

    def install(answers):
        file = tmp_path / "nvidia-smi"
        file.write_text(SMI.format(python=sys.executable, answers=answers))
        file.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pynvml", None)
    return install


class NVMLError(Exception):
    pass


def nvml(**changes):
    def absent(*_):
        raise NVMLError("Not Supported")

    found = {
        "NVMLError": NVMLError,
        "NVML_CLOCK_SM": 1,
        "NVML_CLOCK_MEM": 2,
        "NVML_TEMPERATURE_GPU": 0,
        "nvmlInit": lambda: None,
        "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
        "nvmlSystemGetDriverVersion": lambda: "580.65.06",
        "nvmlDeviceGetClockInfo": lambda _, kind: {1: 1980, 2: 2619}[kind],
        "nvmlDeviceGetMaxClockInfo": lambda _, kind: {1: 1980, 2: 2619}[kind],
        "nvmlDeviceGetPowerUsage": lambda _: 118430,
        "nvmlDeviceGetEnforcedPowerLimit": lambda _: 700000,
        "nvmlDeviceGetTemperature": lambda *_: 31,
        "nvmlDeviceGetEccMode": lambda _: [1, 1],
        "nvmlDeviceGetPersistenceMode": lambda _: 1,
        "nvmlDeviceGetMigMode": lambda _: [0, 0],
        "nvmlDeviceGetPerformanceState": lambda _: 0,
    }
    return types.SimpleNamespace(**{**found, **dict.fromkeys(changes, absent)})


def test_nvidia_smi_is_read_where_nvml_is_not_installed(smi):
    smi(ANSWERS)
    assert gpu.state("GPU-0") == EXPECTED


def test_nvml_and_nvidia_smi_say_the_same(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", nvml())
    assert gpu.state("GPU-0") == EXPECTED


def test_what_a_device_does_not_report_is_left_out(monkeypatch, smi):
    smi(ANSWERS | {"mig.mode.current": "[N/A]", "ecc.mode.current": "[Not Supported]"})
    assert gpu.state("GPU-0") == {n: v for n, v in EXPECTED.items() if n not in ("mig mode", "ecc mode")}
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlDeviceGetMigMode=None, nvmlDeviceGetEccMode=None))
    assert gpu.state("GPU-0") == {n: v for n, v in EXPECTED.items() if n not in ("mig mode", "ecc mode")}


def test_a_driver_that_lacks_a_field_is_asked_for_the_others(smi):
    smi({field: value for field, value in ANSWERS.items() if field != "mig.mode.current"})
    assert gpu.state("GPU-0") == {name: value for name, value in EXPECTED.items() if name != "mig mode"}


def test_nvml_that_cannot_reach_the_device_gives_way_to_nvidia_smi(monkeypatch, smi):
    monkeypatch.setitem(sys.modules, "pynvml", nvml(nvmlInit=None))
    assert gpu.state("GPU-0") == {"driver": "not read: NVML: Not Supported"}
    smi(ANSWERS)
    assert gpu.state("GPU-0") == EXPECTED


def test_where_nothing_can_be_read_it_says_why(smi):
    assert gpu.state("GPU-0") == {"driver": "not read: neither nvidia-ml-py nor nvidia-smi is installed"}
