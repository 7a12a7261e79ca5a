"""How long it takes to key both captured hands onto a rig. Run with `python -m`.

    python -m tests.benchmarks.bench_retarget [FRAMES]

Process time, so that other programs do not count: fingers alone, with wrists on a rig that stands still, and with
wrists over a body that moves, where the rig has to be evaluated on every frame. Also the longest single step, which is
what Blender's window waits for.
"""

import os
import sys
import time

import bpy
import numpy as np

from addon.retargeting import retarget
from dir_core.conventions import SIDES
from dir_core.hand_model import open_hand_models
from dir_core.retargeting.rig_map import known_rig_maps
from tests.blender.test_retarget import body_action, build_rig, key_captured


def measure(models, count, wanted, *, moving):
    """Seconds for the whole, and for the longest step, of one rig in an empty file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    armatures = key_captured(models, count)
    rig_map = next(each for each in known_rig_maps() if each.name == "Mixamo")
    rig = build_rig(np.random.default_rng(1), models, rig_map)
    if moving:
        body_action(rig, ["hips", "chest", "forearm left", "forearm right"])
    steps = retarget.key_onto_rig(rig, armatures, rig_map, wanted)
    longest, begin = 0.0, time.process_time()
    last = begin
    try:
        while True:
            next(steps)
            longest, last = max(longest, time.process_time() - last), time.process_time()
    except StopIteration:
        now = time.process_time()
        return now - begin, max(longest, now - last)


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    models = open_hand_models()
    print(f"Blender {bpy.app.version_string}: {count} frames, {len(SIDES)} hands")
    for name, wanted, moving in (
        ("fingers", retarget.Wanted(), False),
        ("fingers and wrists", retarget.Wanted(wrist="ROTATION"), False),
        ("fingers and wrists over a moving body", retarget.Wanted(wrist="ROTATION"), True),
    ):
        whole, longest = min(measure(models, count, wanted, moving=moving) for _ in range(3))
        print(f"{name}: {whole:.2f} s, longest step {1000 * longest:.0f} ms")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
