"""How long Blender stands still while the hands of a minute of video are built, keyed and keyed again. Run with `-m`.

    python -m tests.benchmarks.bench_take_keys [FRAMES]

Times are those of the processor, so other programs do not count; the best of five.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import bpy
import numpy as np

import addon
from addon import hand_rig, take_keys, takes
from dir_core.conventions import SIDES
from dir_core.hand_model import open_hand_models
from dir_core.take import save_take
from tests.takes import make_take

RUNS = 5


def best(work: Callable[[], object]) -> float:
    """Seconds."""
    spent = []
    for _ in range(RUNS):
        begin = time.process_time()
        work()
        spent.append(time.process_time() - begin)
    return min(spent)


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1800
    models = open_hand_models()
    take = make_take(models, count=count)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    addon.register()
    scene = bpy.context.scene
    with tempfile.TemporaryDirectory() as folder:
        save_take(take, Path(folder) / "take.npz")
        item = takes.add_take(scene, Path(folder) / "take.npz")

        def build() -> None:
            for side in SIDES:
                hand_rig.build_hand(models[side], np.zeros(10), 1.0, scene.collection)

        def key() -> None:
            take_keys.key_take(bpy.context, item, take)

        print(f"Blender {bpy.app.version_string}: {count} frames x 2 hands")
        print(f"build both hands          {1000 * best(build):6.0f} ms")
        key()
        print(f"key again                 {1000 * best(key):6.0f} ms")
        for armature in take_keys.hands_of(item).values():
            for bone in armature.pose.bones:
                bone.keyframe_insert("rotation_quaternion", frame=-10)
        print(f"key again beside others   {1000 * best(key):6.0f} ms")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
