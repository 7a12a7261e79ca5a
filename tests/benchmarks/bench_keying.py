"""How long it takes to key a minute and a half of both hands, against keyframe_insert. Run with `python -m`.

    python -m tests.benchmarks.bench_keying [FRAMES]

keyframe_insert slows down as curves grow, so its time is measured at two small lengths and extrapolated once by the
first power (too kind to it) and once by the power that the two lengths show.
"""

import os
import sys
import time

import bpy
import numpy as np

from addon import hand_rig, keying
from addon.scene import key_hand
from dir_core.conventions import SIDES
from dir_core.hand_model import open_hand_models
from tests.takes import make_take


def build(models):
    """Both rigs in an empty file."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    return [hand_rig.build_hand(models[side], np.zeros(10), 1.0, bpy.context.scene.collection) for side in SIDES]


def time_bulk(models, take):
    """Seconds for axes and F-curves of both hands."""
    hands = build(models)
    frames = keying.frames_from_times(take.time, 1, 30)
    begin = time.perf_counter()
    action = None
    for hand in hands:
        place = keying.open_place(hand.armature, action)
        key_hand(hand.armature, hand.side, take.hand(hand.side), frames, place)
        action = place.action
    return time.perf_counter() - begin


def time_insert(models, take, count):
    """Seconds for the same keys of the first `count` frames by keyframe_insert."""
    hands = build(models)
    poses = [
        hand_rig.basis_pose(hand.armature, hand.side, take.hand(hand.side).rotation, take.hand(hand.side).translation)
        for hand in hands
    ]
    begin = time.perf_counter()
    for frame in range(count):
        for hand, (rotations, locations) in zip(hands, poses, strict=True):
            bones = [hand.armature.pose.bones[name] for name in hand_rig.bone_names(hand.side)]
            for joint, bone in enumerate(bones):
                bone.rotation_quaternion = rotations[frame, joint]
                bone.keyframe_insert("rotation_quaternion", frame=frame + 1)
            bones[0].location = locations[frame]
            bones[0].keyframe_insert("location", frame=frame + 1)
    return time.perf_counter() - begin


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    models = open_hand_models()
    take = make_take(models, count=count)
    bulk = min(time_bulk(models, take) for _ in range(3))
    lengths = (count // 10, count // 4)
    inserts = [time_insert(models, take, length) for length in lengths]
    power = np.log(inserts[1] / inserts[0]) / np.log(lengths[1] / lengths[0])
    kind = inserts[1] * count / lengths[1]
    likely = inserts[1] * (count / lengths[1]) ** power
    print(f"Blender {bpy.app.version_string}: {count} frames x 2 hands keyed in {bulk:.3f} s")
    print(f"keyframe_insert: {inserts[0]:.2f} s for {lengths[0]} frames, {inserts[1]:.2f} s for {lengths[1]}")
    print(f"extrapolated: {kind:.1f} s if linear ({kind / bulk:.0f} x), {likely:.1f} s by power {power:.2f}"
          f" ({likely / bulk:.0f} x)")  # fmt: skip


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
