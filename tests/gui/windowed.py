"""Finds or prepares a Blender with a window, plays scenarios in it, brings back what they saw. Standard library only.

The window is one of Xvfb, which needs no screen and no GPU. Blender and Xvfb are those on PATH, or those of a small
Debian in a folder of its own, which this file prepares (as root, about 2 GB, once): TWO_HAND_CAPTURE_GUI_ROOT names it,
else it is build/gui-root. What runs there sees its own mounts, processes and no network. All of that is undone by the
system itself when the run ends, however it ends.

    python tests/gui/windowed.py       prepares, and says in one sentence why it cannot
"""

from __future__ import annotations

import json
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).resolve().with_name("inside.py")

SUITE = "trixie"
"""The stable Debian whose Blender (4.3.2) is new enough."""

PACKAGES = ("blender", "python3-numpy", "xvfb", "xauth", "libgl1-mesa-dri", "libegl-mesa0", "libglx-mesa0")

SHADERS = ROOT / "build" / "gui-shaders"
"""Compiled shaders, kept between runs: without a GPU, Blender's first redraw takes seconds otherwise."""

SCREEN = (1280, 800)

OLDEST_BLENDER = (4, 2)

ISOLATED = """
set -e
root=$1; shift
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$1"; else mkdir -p "$root$(dirname "$1")"; touch "$root$1"; fi
    mount --bind "$1" "$root$1"
    shift
done
shift
chroot "$root" "$@"
exit $?
"""
"""Mounts seen by this process alone, then a program in the root. The shell stays to bury orphaned processes."""


class GuiError(Exception):
    """There is no Blender with a window to be had; the message is one sentence."""


@dataclass(frozen=True)
class WindowedBlender:
    """A Blender that can have a window: that of a Debian in the folder `root`, or the one on PATH if it is None."""

    root: Path | None

    def command(self, words: Sequence[str], shown: Sequence[Path], *, online: bool) -> list[str]:
        """The command that runs `words` where Blender is; files and folders in `shown` are there, too."""
        if self.root is None:
            return list(words)
        apart = ["unshare", "--mount", "--pid", "--fork", "--kill-child", *([] if online else ["--net"])]
        return [*apart, "sh", "-c", ISOLATED, "sh", str(self.root), *map(str, shown), "--", *words]


@dataclass(frozen=True)
class Outcome:
    """What a scenario saw.

    Attributes:
        error: why it failed, empty if it did not.
        exit_code: Blender's own; 137 or -9 if it was killed.
        notes: what the scenario noted by name.
        stalls: name of a stretch -> "p50", "p95", "worst", "cpu_p95", "cpu_worst" in milliseconds, "count".
        pictures: PNG files of the whole screen, in the order they were taken.
        log: all that Blender printed.
    """

    error: str
    exit_code: int
    notes: dict[str, Any]
    stalls: dict[str, dict[str, float]]
    pictures: list[Path]
    log: str


def find_blender() -> WindowedBlender:
    """The Blender on PATH if it is new enough, else the one in the prepared root.

    Raises:
        GuiError: neither is there.
    """
    chosen = os.environ.get("TWO_HAND_CAPTURE_GUI_ROOT")
    if not chosen and all(shutil.which(name) for name in ("blender", "Xvfb", "xvfb-run")) and is_new_enough():
        return WindowedBlender(None)
    root = root_folder()
    if not all((root / "usr" / "bin" / name).exists() for name in ("blender", "Xvfb", "xvfb-run")):
        raise GuiError(
            f"There is no Blender with a window in {root}: run build_addon.py test --gui as root on Debian, "
            "or install blender (4.2 or newer) and xvfb."
        )
    if not may_isolate():
        raise GuiError(
            f"Only a root that may mount can run the Blender in {root}: become it, or install blender and xvfb."
        )
    return WindowedBlender(root)


def may_isolate() -> bool:
    """Whether this user may give a process mounts, processes and a network of its own; root of a container may not."""
    if not shutil.which("unshare"):
        return False
    command = ["unshare", "--mount", "--pid", "--fork", "--net", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def root_folder() -> Path:
    """Where the Debian with Blender lives."""
    return Path(os.environ.get("TWO_HAND_CAPTURE_GUI_ROOT") or ROOT / "build" / "gui-root").resolve()


def is_new_enough() -> bool:
    """Whether the Blender on PATH can load the extension."""
    result = subprocess.run(["blender", "--version"], capture_output=True, text=True, check=False)
    words = result.stdout.split()[:2]
    numbers = words[1].split(".")[:2] if len(words) == 2 else []
    return all(number.isdigit() for number in numbers) and tuple(map(int, numbers)) >= OLDEST_BLENDER


# Preparing a root -----------------------------------------------------------------------------------


def prepare() -> WindowedBlender:
    """A Blender with a window; makes the root if nothing is there, whole or not at all.

    Raises:
        GuiError: it cannot be made here.
    """
    try:
        return find_blender()
    except GuiError:
        root = root_folder()
        if not shutil.which("apt-get") or not may_isolate():
            raise
    if not shutil.which("debootstrap"):
        raise GuiError("A Debian with Blender is prepared by debootstrap, install it: apt-get install debootstrap")
    log = root.with_name(f"{root.name}.log")
    new = root.with_name(f"{root.name}.new")
    if root.exists():
        raise GuiError(f"{root} holds something else than a Debian with Blender, remove or rename it.")
    print(f"Preparing a Debian with Blender in {root} (about 2 GB, once; what is done is in {log}) ...", flush=True)
    new.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(new, ignore_errors=True)
    with log.open("w", encoding="utf-8") as output:
        make_root(new, output)
    new.rename(root)
    return find_blender()


def make_root(root: Path, output: Any) -> None:
    """A minimal Debian with Blender and Xvfb, from the mirror and with the settings of this machine's apt."""
    mirror = debian_mirror()
    run_logged(["debootstrap", "--variant=minbase", SUITE, str(root), mirror], output)
    for name in ("apt.conf", "apt.conf.d", "auth.conf", "auth.conf.d"):
        source = Path("/etc/apt") / name
        if source.is_dir():
            shutil.copytree(source, root / "etc" / "apt" / name, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copy2(source, root / "etc" / "apt" / name)
    shutil.copy("/etc/resolv.conf", root / "etc" / "resolv.conf")
    there = WindowedBlender(root)
    install = ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]
    for words in (["apt-get", "update"], install, ["apt-get", "clean"]):
        environment = ["env", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C.UTF-8"]
        run_logged(there.command([*environment, *words], [], online=True), output)


def debian_mirror() -> str:
    """Where this machine's apt gets Debian from."""
    command = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(LABEL) $(REPO_URI)", "Created-By: Packages"]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    mirrors = [line.split()[2] for line in lines if line.startswith("Debian Debian ")]
    if not mirrors:
        raise GuiError("This machine's apt knows no Debian mirror: run apt-get update, or install blender and xvfb.")
    return mirrors[0]


def run_logged(command: Sequence[str], output: Any) -> None:
    """Run one step of the preparation; what it says goes to the log."""
    output.write(f"$ {' '.join(word for word in command if word != ISOLATED)}\n")
    output.flush()
    result = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
    if result.returncode:
        raise GuiError(
            f"The Debian with Blender could not be prepared: check the network and the free disk space "
            f"(what {command[0]} said is in {output.name}) and run this again."
        )


# Playing a scenario ---------------------------------------------------------------------------------


def play(
    blender: WindowedBlender,
    scenario: Path,
    folder: Path,
    profile: Path,
    values: Mapping[str, Any],
    *,
    seconds: float = 300.0,
    online: bool = False,
    screen: tuple[int, int] = SCREEN,
) -> Outcome:
    """Start Blender, play a scenario in it, and bring back what it saw.

    Args:
        blender: from find_blender().
        scenario: file with a generator `steps(gui)`, see inside.py.
        folder: gets pictures, result.json and blender.log; emptied before.
        profile: Blender's settings and extensions; an empty folder is a Blender that was just installed.
        values: what the scenario finds in gui.values; a Path is a file or folder that exists, and is there, too.
        seconds: after which everything is killed.
        online: whether there is a network.
        screen: its width and height in pixels; Blender fills it.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for each in (folder, folder / "display", folder / "home", profile, SHADERS):
        each.mkdir(parents=True, exist_ok=True)
    (folder / "values.json").write_text(json.dumps(dict(values), default=str), encoding="utf-8")
    shown = [
        INSIDE.parent,
        scenario.parent,
        folder,
        profile,
        SHADERS,
        *(v for v in values.values() if isinstance(v, Path)),
    ]
    settings = {
        "PATH": os.environ["PATH"] if blender.root is None else "/usr/local/bin:/usr/bin:/bin",
        "HOME": str(folder / "home"),
        "LANG": "C.UTF-8",
        "LIBGL_ALWAYS_SOFTWARE": "1",
        "MESA_SHADER_CACHE_DIR": str(SHADERS),
        "BLENDER_USER_RESOURCES": str(profile),
    }
    width, height = screen
    server = f"-screen 0 {width}x{height}x24 -nolisten tcp -fbdir {folder / 'display'}"
    words = ["env", "-i", *(f"{name}={value}" for name, value in settings.items())]
    # A number of its own: with the network of the machine, another Xvfb may hold the usual one.
    words += ["xvfb-run", "-a", "-n", str(random.randrange(100, 30000)), "-s", server]
    words += ["blender", "-noaudio", "--enable-event-simulate", "--window-geometry", "0", "0", str(width), str(height)]
    words += ["--python-exit-code", "3", "--python", str(INSIDE), "--", str(scenario), str(folder), str(seconds)]
    command = ["timeout", "-s", "KILL", str(seconds), *blender.command(words, shown, online=online)]
    log = folder / "blender.log"
    with log.open("wb") as output:
        code = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False
        ).returncode
    for name in ("display", "home"):
        shutil.rmtree(folder / name, ignore_errors=True)
    return read_outcome(folder, code, log.read_text(encoding="utf-8", errors="replace"))


def read_outcome(folder: Path, code: int, log: str) -> Outcome:
    """What a scenario has left in its folder."""
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        result = {"error": "Blender never came to play the scenario", "finished": True}
    error = result["error"]
    if not result["finished"]:
        error = f"Blender ended with exit code {code} in the middle of the scenario"
    elif not error and code:
        error = f"the scenario was played, but Blender then ended with exit code {code}"
    pictures = []
    for name in result.get("pictures", ()):
        source = (folder / name).with_suffix(".xwd")
        (folder / name).write_bytes(png_of(source.read_bytes()))
        source.unlink()
        pictures.append(folder / name)
    return Outcome(error, code, result.get("notes", {}), result.get("stalls", {}), pictures, log)


def png_of(dump: bytes) -> bytes:
    """A PNG of an X window dump with 32 bits a pixel, as Xvfb keeps its screen."""
    header = struct.unpack(">25I", dump[:100])
    header_size, width, height, bits, line, colours = (header[k] for k in (0, 4, 5, 11, 12, 19))
    if bits != 32:
        raise ValueError(f"a screen with {bits} bits a pixel")
    start = header_size + 12 * colours
    rows = []
    for row in range(height):
        pixels = dump[start + row * line : start + row * line + 4 * width]
        rgb = bytearray(3 * width)
        rgb[0::3], rgb[1::3], rgb[2::3] = pixels[2::4], pixels[1::4], pixels[0::4]
        rows.append(b"\0" + bytes(rgb))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"".join(rows), 6))
        + chunk(b"IEND", b"")
    )


if __name__ == "__main__":
    try:
        prepare()
    except GuiError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
