"""What the preview on a rig takes of each frame. Run with `python -m`.

    python -m tests.benchmarks.bench_rig_preview

Process time of its handlers for both hands on a rig with Mixamo's names: fingers alone on a rig that nothing animates,
and with wrists over a moving body. The least of twenty rounds, so that other programs count as little as they can.
"""

import os
import sys
import time

import bpy
import numpy as np

from addon import registration
from addon.retargeting import rig_preview
from dir_core.hand_model import open_hand_models
from dir_core.retargeting.rig_map import known_rig_maps
from tests.blender.test_retarget import body_action, build_rig, key_captured

FRAMES = 60
ROUNDS = 20


def measure(models, *, moving):
    """Milliseconds of the handlers on a frame, and of one look of the timer."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    armatures = key_captured(models, FRAMES)
    rig = build_rig(np.random.default_rng(1), models, next(each for each in known_rig_maps() if each.name == "Mixamo"))
    if moving:
        body_action(rig, ["hips", "chest", "forearm left", "forearm right"])
    state = bpy.context.scene.two_hands
    item = state.takes.add()
    item.uid, item.keying.left, item.keying.right = "take", armatures["left"], armatures["right"]
    state.retarget.target = rig
    state.retarget.wrist = "ROTATION" if moving else "NONE"
    state.retarget.preview = True
    spent = [0.0]

    def timed(handler):
        def call(*arguments):
            begin = time.process_time()
            handler(*arguments)
            spent[0] += time.process_time() - begin

        return call

    kept = {}
    for name in ("frame_change_pre", "frame_change_post"):
        handlers = getattr(bpy.app.handlers, name)
        kept[name] = list(handlers)
        handlers[:] = [
            timed(handler) if handler.__module__ == rig_preview.__name__ else handler for handler in handlers
        ]
    frames, looks = [], []
    for _ in range(ROUNDS):
        spent[0] = 0.0
        for frame in range(1, FRAMES + 1):
            bpy.context.scene.frame_set(frame)
        frames.append(spent[0] / FRAMES)
        begin = time.process_time()
        for _ in range(FRAMES):
            rig_preview._look()
        looks.append((time.process_time() - begin) / FRAMES)
    assert rig_preview.problem() == ""
    for name, handlers in kept.items():
        getattr(bpy.app.handlers, name)[:] = handlers
    return 1000 * min(frames), 1000 * min(looks)


def main() -> None:
    """Measure and print."""
    models = open_hand_models()
    for name, moving in (("fingers", False), ("fingers and wrists over a moving body", True)):
        registration.register()
        frame, look = measure(models, moving=moving)
        registration.unregister()
        print(f"Blender {bpy.app.version_string}, {name}: {frame:.1f} ms a frame, {look:.1f} ms a look")


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
