"""Proves the files beside it on this machine, times them, and writes a document that `opbench report` reads.

    python on_device.py                          every file, in ONNX Runtime on the CPU
    python on_device.py --runtime openvino          or ncnn, torchscript
    python on_device.py --provider CUDAExecutionProvider --file NAME.onnx

It needs numpy and the runtime alone. manifest.json names the files, and for each the inputs in its .npz, the outputs of
the float64 definition, and by how much each element may differ. Every file is executed in a process of its own.
Exit code 0: all are right; 1: one is not; 2: none could be judged.

Longer than 300 lines because it is copied to a device alone.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RUNTIMES = {"onnxruntime": "onnx", "openvino": "onnx", "torchscript": "torchscript", "ncnn": "ncnn"}
CPU = "CPUExecutionProvider"
SECONDS = 600


class OnnxRuntime:
    """A file in ONNX Runtime, by one of its providers; what the provider lacks, the CPU's executes."""

    def __init__(self, path: Path, provider: str, threads: int) -> None:
        import onnxruntime

        self.version = f"onnxruntime {onnxruntime.__version__}"
        known = onnxruntime.get_available_providers()
        self.provider = provider or CPU
        if self.provider not in known:
            raise ValueError(f"it has no provider {self.provider} here (it has: {', '.join(known)})")
        self._onnxruntime, self._path, self._threads = onnxruntime, path, threads
        self._session = self._started()
        self._names = [one.name for one in self._session.get_inputs()]
        self._output = [self._session.get_outputs()[0].name]

    def _started(self, profile: str = "") -> Any:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        if profile:
            options.enable_profiling = True
            options.profile_file_prefix = profile
        # A name twice would be refused.
        providers = list(dict.fromkeys((self.provider, CPU)))
        return self._onnxruntime.InferenceSession(str(self._path), options, providers=providers)

    def run(self, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """The first output."""
        found = self._session.run(self._output, dict(zip(fitting(self._names, inputs), inputs, strict=True)))
        return np.asarray(found[0])

    def elsewhere(self, inputs: list[np.ndarray[Any, Any]]) -> dict[str, int]:
        """Operations that another provider executed, by the profile of one call."""
        with tempfile.TemporaryDirectory() as folder:
            session = self._started(os.path.join(folder, "profile"))
            session.run(self._output, dict(zip(self._names, inputs, strict=True)))
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        kernels = [one["args"] for one in events if one.get("cat") == "Node" and "provider" in one.get("args", {})]
        return dict(Counter(one["op_name"] for one in kernels if one["provider"] != self.provider))


class OpenVino:
    """A file in OpenVINO, told to keep float32: left alone it may compute in bfloat16."""

    def __init__(self, path: Path, provider: str, threads: int) -> None:
        import openvino

        self.version = f"openvino {openvino.__version__.partition('-')[0]}"
        self.provider = provider or "CPU"
        settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if self.provider == "CPU":
            settings |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        core = openvino.Core()
        self._compiled = core.compile_model(core.read_model(str(path)), self.provider, settings)
        self._request = self._compiled.create_infer_request()

    def run(self, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """The first output."""
        # One that is not given would be what lies in its memory.
        fitting([f"input {at}" for at in range(len(self._compiled.inputs))], inputs)
        self._request.infer(dict(enumerate(inputs)), share_inputs=True)
        return np.array(self._request.get_output_tensor(0).data)

    def elsewhere(self, inputs: list[np.ndarray[Any, Any]]) -> dict[str, int]:
        """Operations for which it has no kernel but its reference code, by the model that it runs."""
        found: Counter[str] = Counter()
        for operation in self._compiled.get_runtime_model().get_ops():
            about = operation.get_rt_info()
            kind, kernel = (_text(about, name) for name in ("layerType", "primitiveType"))
            if kernel.startswith("ref"):
                found[kind] += 1
        return dict(found)


def _text(about: Any, name: str) -> str:
    return str(about[name].astype(str) if hasattr(about[name], "astype") else about[name]) if name in about else ""


class TorchScript:
    """A file in torch, as it was traced and frozen."""

    def __init__(self, path: Path, provider: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.version, self.provider = f"torch {torch.__version__}", provider or "cpu"
        self._torch, self._module = torch, torch.jit.load(str(path), map_location=self.provider)

    def run(self, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """The output."""
        with self._torch.inference_mode():
            given = [self._torch.from_numpy(one).to(self.provider) for one in inputs]
            return np.asarray(self._module(*given).cpu().numpy())

    def elsewhere(self, inputs: list[np.ndarray[Any, Any]]) -> dict[str, int]:
        """None: torch executes all of it on one device."""
        return {}


class Ncnn:
    """A pair of files in ncnn on the CPU, in float32. It has no batch: the first axis is taken off and put back."""

    def __init__(self, path: Path, provider: str, threads: int) -> None:
        import ncnn

        self.version, self.provider = f"ncnn {ncnn.__version__}", provider or "cpu"
        text = path.read_text(encoding="utf-8").splitlines()[2:]
        kinds = {line.split(maxsplit=1)[0] for line in text if line.strip()}
        # It would be loaded and crash when it is called.
        if foreign := sorted(kind for kind in kinds if "." in kind or ":" in kind):
            raise ValueError(f"it has no layer for {', '.join(foreign)}")
        self._ncnn, self._net = ncnn, ncnn.Net()
        self._net.opt.num_threads = threads
        self._net.opt.use_vulkan_compute = False
        for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage", "int8_inference"):
            if hasattr(self._net.opt, f"use_{name}"):
                setattr(self._net.opt, f"use_{name}", False)
        if self._net.load_param(str(path)) or self._net.load_model(str(path.with_suffix(".bin"))):
            raise ValueError("it can't load the files: it says why on standard error alone")
        self._names, self._output = list(self._net.input_names()), next(iter(self._net.output_names()))

    def run(self, inputs: list[np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
        """The first output."""
        if any(len(one) != 1 for one in inputs):
            raise ValueError("it takes one image at a time")
        extractor = self._net.create_extractor()
        held = [np.ascontiguousarray(one[0]) for one in inputs]  # a Mat only points to it
        for name, value in zip(fitting(self._names, inputs), held, strict=True):
            extractor.input(name, self._ncnn.Mat(value))
        code, found = extractor.extract(self._output)
        if code:
            raise ValueError(f"it gives no output: code {code}")
        return np.array(found.numpy())[None]

    def elsewhere(self, inputs: list[np.ndarray[Any, Any]]) -> dict[str, int]:
        """None: it has no other provider on the CPU."""
        return {}


def fitting(names: list[str], inputs: list[np.ndarray[Any, Any]]) -> list[str]:
    """The names of a file's inputs; ValueError where it has another number of them than are given."""
    if len(names) != len(inputs):
        raise ValueError(f"the file has {len(names)} inputs ({', '.join(names)}), there are {len(inputs)} to give it")
    return names


STARTED: dict[str, Any] = {
    "onnxruntime": OnnxRuntime,
    "openvino": OpenVino,
    "torchscript": TorchScript,
    "ncnn": Ncnn,
}


def judged(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any], bound: np.ndarray[Any, Any]) -> dict[str, Any]:
    """The proof of one output: right where no element is further from the definition than its bound."""
    if got.shape != expected.shape:
        return {"proof": "wrong", "reason": f"output: expected shape {expected.shape}, got {got.shape}"}
    exact = got.astype(np.float64)
    if expected.any() and not exact.any():
        return {"proof": "wrong", "reason": "output: all zero where the definition is not"}
    error = np.abs(exact - expected)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(error == 0, 0.0, error / bound)
    # NaN compares false with everything: what is not provably within the bound is infinitely far out.
    ratio = np.where(np.isfinite(exact) & ~np.isnan(ratio), ratio, np.inf)
    at = np.unravel_index(int(ratio.argmax()), ratio.shape)
    worst = float(ratio[at])
    found: dict[str, Any] = {"worst_ratio": worst if np.isfinite(worst) else None}
    if worst <= 1:
        return {**found, "proof": "right"}
    reason = (
        f"output{[int(index) for index in at]}: expected {float(expected[at]):.9g}, got {float(exact[at]):.9g}, off by "
        f"{float(error[at]):.3g} where rounding explains {float(bound[at]):.3g}"
    )
    return {**found, "proof": "wrong", "reason": reason}


def one(entry: dict[str, Any], runtime: str, provider: str, threads: int, rounds: int) -> dict[str, Any]:
    """A file: loaded, proven, timed if it is right, and the memory that this process has had at most."""
    path = HERE / entry["file"]
    about = {"contender": entry["contender"], "file": entry["file"], "runtime": runtime, "provider": provider}
    found: dict[str, Any] = {**about, "sha256": "", "version": "", "at": []}
    data = np.load(HERE / entry["inputs"])
    sets = [(name, _inputs(data, name)) for name in entry["sets"]]
    try:
        found["sha256"] = hashlib.sha256(
            b"".join((HERE / name).read_bytes() for name in _parts(entry["file"]))
        ).hexdigest()
        begin = time.perf_counter()
        loaded = STARTED[runtime](path, provider, threads)
        found |= {"load_seconds": time.perf_counter() - begin, "version": loaded.version, "provider": loaded.provider}
    except Exception as error:  # of whatever kind a runtime raises
        found["at"] = [{"shape": list(sets[0][1][0].shape), "proof": "refused", "reason": _said(error)}]
        return found
    for name, inputs in sets:
        shape = {"shape": list(inputs[0].shape)}
        try:
            begin = time.perf_counter()
            got = loaded.run(inputs)
            found.setdefault("first_call_seconds", time.perf_counter() - begin)
        except Exception as error:  # likewise
            found["at"].append({**shape, "proof": "refused", "reason": _said(error)})
            continue
        found["at"].append({**shape, **judged(got, data[f"{name}.expected"], data[f"{name}.bound"])})
    found["note"] = ""
    if found["at"][0]["proof"] == "right":
        found["samples_seconds"] = [_timed(loaded, sets[0][1]) for _ in range(rounds)]
        found["peak_bytes"] = _peak_bytes()
        try:
            found["elsewhere"] = loaded.elsewhere(sets[0][1])
        except Exception as error:  # what it says of itself is no part of the proof
            found["note"] = f"what runs elsewhere is not known: {_said(error)}"
    return found


def _parts(file: str) -> list[str]:
    """A file of ncnn has its weights in another one beside it."""
    return [file, file.removesuffix(".param") + ".bin"] if file.endswith(".param") else [file]


def _inputs(data: Any, name: str) -> list[np.ndarray[Any, Any]]:
    return [np.ascontiguousarray(data[key]) for key in sorted(data.files) if key.startswith(f"{name}.input")]


def _timed(loaded: Any, inputs: list[np.ndarray[Any, Any]]) -> float:
    begin = time.perf_counter()
    loaded.run(inputs)
    return time.perf_counter() - begin


def _peak_bytes() -> int | None:
    """Resident memory of this process at its highest; None where the system doesn't say."""
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 400 else f"{text[:400]} ..."


def apart(entry: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """The same in a process of its own, which may hang or crash at the cost of this file alone."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", json.dumps(entry), "--runtime", options.runtime]
    command += ["--provider", options.provider, "--threads", str(options.threads), "--rounds", str(options.rounds)]
    lost = {"contender": entry["contender"], "file": entry["file"], "runtime": options.runtime, "sha256": ""}
    lost |= {"version": "", "provider": options.provider}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return {**lost, "at": [{"shape": [], "proof": "timed-out", "reason": f"no answer within {SECONDS} s"}]}
    for line in reversed(done.stdout.splitlines()):
        if line.startswith('{"contender"'):
            found: dict[str, Any] = json.loads(line)
            return found
    last = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "")
    return {
        **lost,
        "at": [{"shape": [], "proof": "crashed", "reason": f"its process ended with code {done.returncode}: {last}"}],
    }


def main(words: list[str] | None = None) -> int:
    """Every file that was asked for; says what it finds and writes the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", choices=RUNTIMES, default="onnxruntime")
    parser.add_argument("--provider", default="", help="of the runtime: CUDAExecutionProvider, GPU, cuda ... [the CPU]")
    parser.add_argument("--file", action="append", default=[], help="only this file (repeatable)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=50, help="calls to time of each file that is right")
    parser.add_argument("-o", "--output", default="", help="the document [device.json beside this script]")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.one:
        entry = json.loads(options.one)
        found = one(entry, options.runtime, options.provider, options.threads, options.rounds)
        print(json.dumps(found), flush=True)
        return 0
    manifest = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))
    wanted = [one for one in manifest["files"] if one["format"] == RUNTIMES[options.runtime]]
    wanted = [one for one in wanted if not options.file or one["file"] in options.file]
    if not wanted:
        print(f"no such file for {options.runtime}", file=sys.stderr)
        return 2
    proofs = []
    for entry in wanted:
        found = apart(entry, options)
        proofs.append(found)
        bad = next((at for at in found["at"] if at["proof"] != "right"), None)
        times = sorted(found.get("samples_seconds", ()))
        median = f", {1e3 * times[len(times) // 2]:.3g} ms (median of {len(times)} calls, alone)" if times else ""
        print(f"{entry['file']}: {bad['proof'] + ': ' + bad['reason'] if bad else 'right' + median}", flush=True)
    document = {
        "kind": "device",
        "schema_version": 1,
        "target": manifest["target"],
        "definition": manifest["definition"],
        "machine": _machine(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "threads": options.threads,
        "started": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),  # noqa: UP017
        "proofs": proofs,
    }
    path = Path(options.output) if options.output else HERE / "device.json"
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    print(f"document: {path}")
    every = [at["proof"] for found in proofs for at in found["at"]]
    if any(proof in ("wrong", "crashed", "timed-out") for proof in every):
        return 1
    return 0 if "right" in every else 2


def _machine() -> str:
    """The model of a board or of a processor, as the system names it."""
    for path, key in (("/proc/device-tree/model", ""), ("/proc/cpuinfo", "model name")):
        try:
            text = Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n")
        except OSError:
            continue
        lines = text.splitlines() if not key else [line.split(":", 1)[1] for line in text.splitlines() if key in line]
        if lines:
            return lines[0].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
