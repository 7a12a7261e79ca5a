"""Makes the two network files of weights/ again from their npm package. A tool of developers, never run by users.

python -m dir_core.detection.fetch_weights [--tarball mediapipe-hands-0.4.1675469240.tgz]
"""

import argparse
import hashlib
import subprocess
import tarfile
import tempfile
from pathlib import Path

from dir_core.errors import HandCaptureError
from dir_core.take import write_whole

PACKAGE = "@mediapipe/hands@0.4.1675469240"
FOLDER = Path(__file__).parent / "weights"

# Result: (member of the tarball, first and last byte in it, sha256).
_PARTS: dict[str, tuple[str, slice, str]] = {
    "palm_detection_full.tflite": (
        "package/hands_solution_packed_assets.data",
        slice(11, 2341291),
        "2f25e740121983f68ffc05f99991d524dc0ea812134f6316a26125816941ee85",
    ),
    "hand_landmark_full.tflite": (
        "package/hand_landmark_full.tflite",
        slice(None),
        "8c026882c9ec059ce0f8e75266bee5a9a23c341a40e0000df755374d3d1b9b68",
    ),
}


def fetch_weights(tarball: Path | None = None, folder: Path = FOLDER) -> None:
    """Write both networks into `folder`.

    Args:
        tarball: the npm package if it is here already; otherwise `npm pack` fetches it.
        folder: where the networks go.

    Raises:
        HandCaptureError: npm fails, or the package does not hold the expected bytes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        tarball = tarball or _pack(Path(temporary))
        try:
            with tarfile.open(tarball) as archive:
                parts = {name: _read(archive, member)[part] for name, (member, part, _) in _PARTS.items()}
        except (OSError, KeyError, tarfile.TarError) as error:
            raise HandCaptureError(f"{tarball} is not the package {PACKAGE}: {error}; fetch it again.") from error
    for name, data in parts.items():
        if hashlib.sha256(data).hexdigest() != _PARTS[name][2]:
            raise HandCaptureError(f"{name} of {tarball} has other bytes than {PACKAGE}, fetch the package again.")
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in parts.items():
        write_whole(folder / name, data)


def _pack(folder: Path) -> Path:
    command = ["npm", "pack", PACKAGE, "--silent", "--pack-destination", str(folder)]
    try:
        result = subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603  fixed words
    except (OSError, subprocess.CalledProcessError) as error:
        raise HandCaptureError(f"npm could not fetch {PACKAGE} ({error}), give the package with --tarball.") from error
    return folder / result.stdout.split()[-1]


def _read(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    if file is None:
        raise KeyError(member)
    return file.read()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description="Make the network files again from their npm package.")
    parser.add_argument("--tarball", type=Path, help="the npm package, if it is here already")
    fetch_weights(parser.parse_args().tarball)


if __name__ == "__main__":
    main()
