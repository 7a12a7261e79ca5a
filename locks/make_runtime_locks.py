"""Makes the lock files of the GPU runtime again: python locks/make_runtime_locks.py. Standard library only.

Asks the package index for the files of the versions below; nothing is downloaded but their list. The wheels that are
not on that index stand here with their hashes.
"""

import json
import re
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

FOLDER = Path(__file__).resolve().parents[1] / "dir_core" / "worker" / "locks"
INDEX = "https://pypi.org/simple"
PYTORCH = "https://download.pytorch.org/whl"

TORCH = "2.13.0"
PYTHONS = ("311", "313")

COMMON = {
    "pip": "26.2",
    "filelock": "4.2.11",
    "fsspec": "2026.9.0",
    "jinja2": "3.1.6",
    "markupsafe": "3.0.4",
    "mpmath": "1.3.0",
    "networkx": "3.6.1",
    "safetensors": "0.8.0",
    "setuptools": "84.2.1",
    "sympy": "1.14.0",
    "typing-extensions": "4.16.0",
}
"""What torch needs on every platform, with pip to install it and safetensors for weights."""

NUMPY = {"311": "1.26.4", "313": "2.5.5"}
"""As in the tests; SciPy, OpenCV and LiteRT of the extension take both."""

CUDA_13 = {
    "cuda-bindings": "13.0.3",
    "cuda-pathfinder": "1.3.3",
    "nvidia-cublas": "13.1.1.3",
    "nvidia-cuda-cupti": "13.0.85",
    "nvidia-cuda-nvrtc": "13.0.88",
    "nvidia-cuda-runtime": "13.0.96",
    "nvidia-cudnn-cu13": "9.20.0.48",
    "nvidia-cufft": "12.0.0.61",
    "nvidia-cufile": "1.15.1.6",
    "nvidia-curand": "10.4.0.35",
    "nvidia-cusolver": "12.0.4.66",
    "nvidia-cusparse": "12.6.3.3",
    "nvidia-cusparselt-cu13": "0.8.1",
    "nvidia-nccl-cu13": "2.29.7",
    "nvidia-nvjitlink": "13.0.88",
    "nvidia-nvshmem-cu13": "3.4.5",
    "nvidia-nvtx": "13.0.85",
    "triton": "3.7.1",
}
"""What torch 2.13.0 from the index names as its requirements on Linux, those of cuda-toolkit 13.0.3 spelled out."""

BUILDS = {
    "linux-x64-cuda": ("manylinux", "x86_64", COMMON | CUDA_13),
    "linux-x64-cpu": ("manylinux", "x86_64", COMMON),
    "windows-x64-cuda": ("win", "amd64", COMMON),
    "windows-x64-cpu": ("win", "amd64", COMMON),
    "macos-arm64-mps": ("macosx", "arm64", COMMON),
}
"""Build -> how the platform tag of its wheels begins and ends, and its packages besides torch and NumPy."""


@dataclass(frozen=True)
class Wheel:
    """One file of a lock."""

    url: str
    sha256: str
    size: int

    @property
    def tags(self) -> tuple[str, str, str]:
        """Python, ABI and platform tag."""
        python, abi, platform = self.url.removesuffix(".whl").rsplit("-", 3)[1:]
        return python, abi, platform


ELSEWHERE = {
    ("linux-x64-cpu", "311"): Wheel(
        f"{PYTORCH}/cpu/torch-{TORCH}%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl",
        "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
        191794682,
    ),
    ("linux-x64-cpu", "313"): Wheel(
        f"{PYTORCH}/cpu/torch-{TORCH}%2Bcpu-cp313-cp313-manylinux_2_28_x86_64.whl",
        "3fbf9c9d1f3c10c2d59d04aca426dee9ccc6ceb32d255c61e93acc3b4f75fae6",
        191815667,
    ),
    ("windows-x64-cuda", "311"): Wheel(
        f"{PYTORCH}/cu126/torch-{TORCH}%2Bcu126-cp311-cp311-win_amd64.whl",
        "8095729db14e7fd5178a39676fdd679208eff4041407ea34e3d898336c90f5c5",
        2594548547,
    ),
    ("windows-x64-cuda", "313"): Wheel(
        f"{PYTORCH}/cu130/torch-{TORCH}%2Bcu130-cp313-cp313-win_amd64.whl",
        "cf23236e9deed7d3510d14d9b9592d75d272ef7b35bbfee31a02bea339c73971",
        1915517499,
    ),
}
"""Builds of torch that are on PyTorch's own index only; its pages name the hash behind each link."""


def files_of(package: str) -> list[dict[str, Any]]:
    """Everything the index has of a package."""
    request = urllib.request.Request(  # noqa: S310 - an https address
        f"{INDEX}/{package}/", headers={"Accept": "application/vnd.pypi.simple.v1+json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.load(answer)["files"]


def fitting_wheel(files: list[dict[str, Any]], package: str, version: str, build: str, python: str) -> Wheel:
    """The wheel of a version for a platform and Python: one for this Python before one for several."""
    begin, end, _ = BUILDS[build]
    stem = f"{re.sub('[-_.]+', '_', package)}-{version}-".lower()
    found = [
        Wheel(file["url"], file["hashes"]["sha256"], file["size"])
        for file in files
        if file["filename"].lower().startswith(stem) and file["filename"].endswith(".whl")
    ]
    for fits in (f"cp{python}", "abi3", "none"):
        for wheel in found:
            tag_python, abi, platform = wheel.tags
            right_platform = platform == "any" or (platform.startswith(begin) and platform.endswith(end))
            if abi == fits and right_platform and (fits != "abi3" or int(tag_python[3:]) <= int(python[1:])):
                return wheel
    raise SystemExit(f"There is no wheel of {package} {version} for {build} and Python {python}.")


def locked(build: str, python: str, known: dict[str, list[dict[str, Any]]]) -> Iterator[tuple[str, Wheel]]:
    """The packages of one lock file in order, pip first because it installs the others."""
    packages = {**BUILDS[build][2], "numpy": NUMPY[python], "torch": TORCH}
    for package in sorted(packages, key=lambda name: (name != "pip", name)):
        elsewhere = ELSEWHERE.get((build, python)) if package == "torch" else None
        if elsewhere:
            yield package, elsewhere
            continue
        if package not in known:
            known[package] = files_of(package)
        yield package, fitting_wheel(known[package], package, packages[package], build, python)


def main() -> None:
    """Write every lock file."""
    known: dict[str, list[dict[str, Any]]] = {}
    for build in BUILDS:
        for python in PYTHONS:
            lines = [
                f"# GPU runtime, {build}, Python {python[0]}.{python[1:]}; made by locks/make_runtime_locks.py.",
                "# pip install --no-deps --require-hashes -r FILE; the number is the size of the file in bytes.",
            ]
            total = 0
            for package, wheel in locked(build, python, known):
                total += wheel.size
                lines.append(f"{package} @ {wheel.url} --hash=sha256:{wheel.sha256}  # {wheel.size}")
            path = FOLDER / f"{build}-cp{python}.txt"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            names = ", ".join(unquote(line.split("/")[-1].split(" ")[0]) for line in lines[2:])
            print(f"{path.name}: {total / 1e6:.0f} MB: {names}")


if __name__ == "__main__":
    sys.exit(main())
