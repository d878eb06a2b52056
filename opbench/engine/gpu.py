"""What a GPU says of itself: driver, clocks, power, temperature, ECC, persistence and MIG mode. Read, never set.

By NVML where nvidia-ml-py is installed, else as `nvidia-smi` prints it. Either way the same names and units; what a
device doesn't report is left out, and where nothing can be read "driver" says why.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping
from typing import Any

# Detail -> the field of `nvidia-smi --query-gpu`.
FIELDS: Mapping[str, str] = {
    "driver": "driver_version",
    "sm clock mhz": "clocks.sm",
    "memory clock mhz": "clocks.mem",
    "sm clock at most mhz": "clocks.max.sm",
    "memory clock at most mhz": "clocks.max.mem",
    "power draw watts": "power.draw",
    "power limit watts": "power.limit",
    "temperature celsius": "temperature.gpu",
    "ecc mode": "ecc.mode.current",
    "persistence mode": "persistence_mode",
    "mig mode": "mig.mode.current",
    "performance state": "pstate",
}
LIMIT_SECONDS = 20.0
_SILENT = ("", "N/A", "[N/A]", "[Not Supported]", "[Unknown Error]")


def state(uuid: str) -> dict[str, str]:
    """The GPU ("GPU-<uuid>") as it is now."""
    try:
        return _by_nvml(uuid)
    except ImportError:
        return _by_smi(uuid)
    except OSError as error:
        found = _by_smi(uuid)
        return found if "sm clock mhz" in found else {"driver": f"not read: {error}"}


def _by_nvml(uuid: str) -> dict[str, str]:
    """Raises ImportError without nvidia-ml-py, OSError where NVML can't reach the device."""
    import pynvml as nvml

    def switch(value: Any) -> str:
        return "Enabled" if value else "Disabled"

    try:
        nvml.nvmlInit()
        gpu = nvml.nvmlDeviceGetHandleByUUID(uuid)
    except nvml.NVMLError as error:
        raise OSError(f"NVML: {error}") from error
    ask: Mapping[str, Callable[[], Any]] = {
        "driver": lambda: nvml.nvmlSystemGetDriverVersion(),
        "sm clock mhz": lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
        "memory clock mhz": lambda: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
        "sm clock at most mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM),
        "memory clock at most mhz": lambda: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_MEM),
        "power draw watts": lambda: f"{nvml.nvmlDeviceGetPowerUsage(gpu) / 1e3:.2f}",
        "power limit watts": lambda: f"{nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1e3:.2f}",
        "temperature celsius": lambda: nvml.nvmlDeviceGetTemperature(gpu, nvml.NVML_TEMPERATURE_GPU),
        "ecc mode": lambda: switch(nvml.nvmlDeviceGetEccMode(gpu)[0]),
        "persistence mode": lambda: switch(nvml.nvmlDeviceGetPersistenceMode(gpu)),
        "mig mode": lambda: switch(nvml.nvmlDeviceGetMigMode(gpu)[0]),
        "performance state": lambda: f"P{nvml.nvmlDeviceGetPerformanceState(gpu)}",
    }
    found = {}
    for name, question in ask.items():
        try:
            found[name] = str(question())
        except (nvml.NVMLError, AttributeError):  # a device without the feature, an older library
            continue
    return found


def _by_smi(uuid: str) -> dict[str, str]:
    """What nvidia-smi prints, units taken off; a driver that doesn't know all the fields is asked for each."""
    try:
        try:
            values = _query(uuid, list(FIELDS.values()))
        except subprocess.CalledProcessError:
            values = [_alone(uuid, field) for field in FIELDS.values()]
    except FileNotFoundError:
        return {"driver": "not read: neither nvidia-ml-py nor nvidia-smi is installed"}
    except (OSError, subprocess.SubprocessError) as error:
        return {"driver": f"not read: nvidia-smi: {error}"}
    found = {name: value for name, value in zip(FIELDS, values, strict=False) if value not in _SILENT}
    return found or {"driver": "not read: nvidia-smi names none of what was asked for"}


def _alone(uuid: str, field: str) -> str:
    try:
        return _query(uuid, [field])[0]
    except (subprocess.CalledProcessError, IndexError):
        return ""


def _query(uuid: str, fields: list[str]) -> list[str]:
    command = ["nvidia-smi", f"--id={uuid}", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=LIMIT_SECONDS).stdout
    first = next((line for line in said.splitlines() if line.strip()), "")
    return [value.strip() for value in first.split(",")]
