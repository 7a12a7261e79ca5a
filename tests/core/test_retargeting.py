"""Hands onto any rig: the formulas on made-up rigs of every kind, and the hands found among bones."""

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from dir_core import rotations
from dir_core.conventions import FINGERS, JOINT_PARENTS, JOINTS, SIDES
from dir_core.errors import HandCaptureError, SettingsError
from dir_core.hand_model import open_hand_models
from dir_core.retargeting import channels, rest, transfer
from dir_core.retargeting.bone_words import split_name
from dir_core.retargeting.detection import detect_hands
from dir_core.retargeting.names import hands_by_name
from dir_core.retargeting.rig_map import HandMap, RigMap, known_rig_maps, load_rig_map, save_rig_map
from dir_core.retargeting.skeleton import Bone

KNOWN = known_rig_maps()
POSES = 200


def scipy_rotation(quaternion):
    return Rotation.from_quat(np.asarray(quaternion)[..., [1, 2, 3, 0]])


def wxyz(rotation):
    return rotation.as_quat()[..., [3, 0, 1, 2]]


def unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def angle_between_directions(a, b):
    return np.arctan2(np.linalg.norm(np.cross(a, b), axis=-1), np.sum(a * b, axis=-1))


def random_poses(rng, count=POSES):
    """Rotations [count, 16, 4] of a Take: any wrist, fingers bent by up to some 120 degrees in any direction."""
    vectors = rng.normal(0, 0.6, (count, 16, 3))
    vectors[:, 0] *= 3
    return rotations.from_rotation_vector(vectors)


def rest_pose(rng, model):
    """Key points [21, 3] of a hand as rigs have them at rest: any shape, relaxed or spread, A or T pose, any size."""
    vectors = rng.normal(0, 0.12, (1, 16, 3))
    vectors[:, 1:] += rng.uniform(0, 0.3) * model.flexion_axes()
    vectors[:, 0] = Rotation.random(random_state=rng).as_rotvec()
    pose = rotations.from_rotation_vector(vectors)
    return model.pose_keypoints(pose, rng.normal(0, 1, (1, 3)), rng.normal(0, 1, 10), rng.uniform(0.5, 20))[0]


def make_target(rng, keypoints, hand, lengths=None):
    """A rig's hand with these names, bones of any roll, and its fingers with `lengths` bones where given."""
    fingers = {}
    for row, name in enumerate(FINGERS):
        bones = hand.fingers.get(name, ())
        count = (lengths or {}).get(name, len(bones))
        if count:
            places = keypoints[4 * row + 1 : 4 * row + 5]
            heads = [*places[:count], places[3]]
            turns = wxyz(Rotation.random(count, random_state=rng)).reshape(count, 4)
            fingers[name] = rest.RestFinger(tuple(bones[:count]), np.array(heads), turns)
    return rest.RestHand(hand.wrist, keypoints[0], wxyz(Rotation.random(random_state=rng)), fingers)


def posed_directions(target, wrist_pose, keys, metacarpal):
    """Directions of every finger bone after forward kinematics as Blender does it.

    Between the wrist and each first finger bone there is one bone of rotation `metacarpal` that nobody turns.
    """
    directions = {}
    for finger in target.fingers.values():
        parent, parent_rest = wrist_pose, scipy_rotation(target.rotation)
        for bone_rest, name in [
            (metacarpal, None),
            *zip(map(scipy_rotation, finger.rotations), finger.bones, strict=True),
        ]:
            basis = scipy_rotation(keys[name]) if name else Rotation.identity()
            pose = parent * parent_rest.inv() * bone_rest * basis
            if name:
                row = finger.bones.index(name)
                directions[name] = (pose * bone_rest.inv()).apply(finger.directions[row])
            parent, parent_rest = pose, bone_rest
    return directions


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("rig_map", KNOWN, ids=lambda each: each.name)
def test_every_bone_points_where_the_captured_one_points(rig_map, side):
    model = open_hand_models()[side]
    rng = np.random.default_rng([len(rig_map.name), *rig_map.name.encode()])
    shape = rng.normal(0, 1, 10)
    source = model.rest_keypoints(shape)
    pose = random_poses(rng)
    seen = model.pose_keypoints(pose, None, shape)
    target = make_target(rng, rest_pose(rng, model), rig_map.hands[side])
    alignment = rest.align(source, target)
    turns = transfer.chain_turns(pose)

    forearm_rest = Rotation.random(random_state=rng)
    forearm = Rotation.random(POSES, random_state=rng)
    wanted = transfer.wrist_rotation(turns, target, alignment, "match")
    key = transfer.key_below(wanted, target.rotation, wxyz(forearm), wxyz(forearm_rest))
    wrist = forearm * forearm_rest.inv() * scipy_rotation(target.rotation) * scipy_rotation(key)
    keys = transfer.finger_keys(turns, target, alignment, "directions")
    directions = posed_directions(target, wrist, keys, Rotation.random(random_state=rng))

    assert len(keys) == 15
    assert set(keys) == set(rig_map.hands[side].bones[1:])
    for row, name in enumerate(FINGERS):
        captured = unit(np.diff(seen[:, 4 * row + 1 : 4 * row + 4], axis=1))
        for joint, bone in enumerate(target.fingers[name].bones[:2]):
            assert np.degrees(angle_between_directions(directions[bone], captured[:, joint])).max() < 0.01
        # The tip's vertex moves a little with the skin: what counts for the last bone is how its joint has turned.
        last = turns[:, JOINTS.index(f"{name}3")]
        line = unit(source[4 * row + 4] - source[4 * row + 3])
        tip = rotations.rotate(last, line)
        assert np.degrees(angle_between_directions(directions[target.fingers[name].bones[2]], tip)).max() < 0.01
    palm = (wrist * scipy_rotation(target.rotation).inv()).apply(
        unit(target.fingers["middle"].places[0] - target.place)
    )
    assert np.degrees(angle_between_directions(palm, unit(seen[:, 9] - seen[:, 0]))).max() < 0.01


@pytest.mark.parametrize("side", SIDES)
def test_joint_angles_are_kept_exactly(side):
    rng = np.random.default_rng(3)
    model = open_hand_models()[side]
    pose = random_poses(rng)
    target = make_target(rng, rest_pose(rng, model), KNOWN[0].hands[side])
    alignment = rest.align(model.rest_keypoints(), target)
    keys = transfer.finger_keys(transfer.chain_turns(pose), target, alignment, "angles")
    for name, finger in target.fingers.items():
        for joint, bone in enumerate(finger.bones):
            captured = scipy_rotation(pose[:, JOINTS.index(f"{name}{joint + 1}")]).magnitude()
            np.testing.assert_allclose(scipy_rotation(keys[bone]).magnitude(), captured, atol=1e-6)


def test_the_formulas_are_those_of_the_derivation():
    """World deltas, alignments and rest matrices as they stand on paper, bone by bone, with matrices."""
    rng = np.random.default_rng(5)
    model = open_hand_models()["left"]
    pose = random_poses(rng, 20)
    target = make_target(rng, rest_pose(rng, model), KNOWN[0].hands["left"])
    alignment = rest.align(model.rest_keypoints(), target)
    turns = transfer.chain_turns(pose)
    deltas = []
    for joint, parent in enumerate(JOINT_PARENTS):
        own = scipy_rotation(pose[:, joint]).as_matrix()
        deltas.append(own if parent < 0 else deltas[parent] @ own)
    hand = scipy_rotation(alignment.hand).as_matrix()
    hand_rest = scipy_rotation(target.rotation).as_matrix()
    for mode in transfer.FINGER_MODES:
        keys = transfer.finger_keys(turns, target, alignment, mode)
        for name, finger in target.fingers.items():
            above_posed, above_rest = deltas[0] @ hand.T @ hand_rest, hand_rest
            above_delta = deltas[0]
            for row, bone in enumerate(finger.bones):
                delta = deltas[JOINTS.index(f"{name}{row + 1}")]
                aligned = scipy_rotation(alignment.fingers[name][row]).as_matrix()
                own_rest = scipy_rotation(finger.rotations[row]).as_matrix()
                posed = delta @ aligned.T @ own_rest
                if mode == "directions":
                    basis = np.linalg.inv(above_posed @ above_rest.T @ own_rest) @ posed
                else:
                    change = own_rest.T @ aligned
                    basis = change @ np.linalg.inv(above_delta) @ delta @ change.T
                np.testing.assert_allclose(scipy_rotation(keys[bone]).as_matrix(), basis, atol=1e-9)
                above_posed, above_rest, above_delta = posed, own_rest, delta
    kept = transfer.wrist_rotation(turns, target, alignment, "delta")
    np.testing.assert_allclose(scipy_rotation(kept).as_matrix(), deltas[0] @ hand_rest, atol=1e-9)


def test_a_rig_at_the_captured_rest_pose_needs_no_turn_and_fingers_follow_nothing_but_fingers():
    model = open_hand_models()["right"]
    rng = np.random.default_rng(8)
    source = model.rest_keypoints()
    turned = Rotation.random(random_state=rng)
    target = make_target(rng, turned.apply(source) * 3.0 + 1.0, KNOWN[0].hands["right"])
    alignment = rest.align(source, target)
    for aligned in (alignment.hand, *alignment.fingers["ring"]):
        assert (scipy_rotation(aligned) * turned.inv()).magnitude() < 1e-9
    pose = np.zeros((30, 16, 4))
    pose[..., 0] = 1.0
    pose[:, 0] = wxyz(Rotation.random(30, random_state=rng))
    for mode in transfer.FINGER_MODES:
        for key in transfer.finger_keys(transfer.chain_turns(pose), target, alignment, mode).values():
            np.testing.assert_allclose(np.abs(key), np.tile([1.0, 0, 0, 0], (30, 1)), atol=1e-9)


@pytest.mark.parametrize("count", [1, 2])
def test_fewer_bones_curl_as_far_as_the_finger_they_stand_for(count):
    model = open_hand_models()["left"]
    rng = np.random.default_rng(2)
    target = make_target(rng, rest_pose(rng, model), KNOWN[0].hands["left"], {"index": count, "middle": 3})
    curl = np.zeros((1, 16, 3))
    curl[0, 1:4] = np.radians(50) * model.flexion_axes()[:3]
    turns = transfer.chain_turns(rotations.from_rotation_vector(curl))
    keys = transfer.finger_keys(turns, target, rest.align(model.rest_keypoints(), target), "angles")
    total = sum(np.degrees(scipy_rotation(keys[bone][0]).magnitude()) for bone in target.fingers["index"].bones)
    # The last bone lies in the middle between the joints it stands for.
    assert total == pytest.approx({1: 100, 2: 125}[count], abs=2)


def test_cartoon_hands_and_mittens_align_by_what_they_have():
    model = open_hand_models()["right"]
    rng = np.random.default_rng(4)
    source = model.rest_keypoints()
    turned = Rotation.random(random_state=rng)
    whole = make_target(rng, turned.apply(source), KNOWN[0].hands["right"])
    for present in (("thumb", "index", "middle", "pinky"), ("thumb", "index", "pinky"), ("thumb", "middle")):
        fingers = {name: whole.fingers[name] for name in present}
        part = rest.RestHand(whole.wrist, whole.place, whole.rotation, fingers)
        assert (scipy_rotation(rest.align(source, part).hand) * turned.inv()).magnitude() < 1e-9


def test_hands_that_cannot_be_aligned_are_told():
    model = open_hand_models()["right"]
    rng = np.random.default_rng(4)
    source = model.rest_keypoints()
    whole = make_target(rng, source, KNOWN[0].hands["right"])
    alone = rest.RestHand("paw", whole.place, whole.rotation, {"index": whole.fingers["index"]})
    with pytest.raises(SettingsError, match="paw needs at least two"):
        rest.align(source, alone)
    flat = {name: rest.RestFinger(f.bones, f.places * [0, 1, 0], f.rotations) for name, f in whole.fingers.items()}
    with pytest.raises(SettingsError, match="lie on a line"):
        rest.align(source, rest.RestHand("paw", whole.place * [0, 1, 0], whole.rotation, flat))
    index = whole.fingers["index"]
    crushed = rest.RestFinger(index.bones, np.repeat(index.places[:1], 4, axis=0), index.rotations)
    with pytest.raises(SettingsError, match=r"index at .* lie on each other"):
        rest.align(source, rest.RestHand("paw", whole.place, whole.rotation, {**whole.fingers, "index": crushed}))
    with pytest.raises(SettingsError, match="has 4 bones"):
        rest.joint_spans(4)


def test_the_smallest_rotation_also_turns_round():
    rng = np.random.default_rng(0)
    start = unit(rng.normal(size=(300, 3)))
    end = unit(rng.normal(size=(300, 3)))
    end[:100] = -start[:100]
    end[100:120] = start[100:120]
    turn = rest.smallest_rotation(start, end)
    np.testing.assert_allclose(rotations.rotate(turn, start), end, atol=1e-12)
    np.testing.assert_allclose(scipy_rotation(turn).magnitude(), angle_between_directions(start, end), atol=1e-7)


# Rotation modes


@pytest.mark.parametrize("order", channels.EULER_ORDERS)
def test_angles_are_the_same_rotations_without_jumps(order):
    rng = np.random.default_rng(1)
    # A path that goes over the top of the middle axis, and one that stops on it.
    time = np.linspace(0, 1, 500)
    smooth = np.stack([0.5 * np.sin(7 * time), 0.4 * time, 0.3 * np.cos(5 * time)], axis=1)
    smooth[:, "XYZ".index(order[1])] = 6.0 * time
    through = np.zeros((500, 3))
    through[:, "XYZ".index(order[1])] = np.minimum(time * 2, 1) * np.pi / 2
    through[:, "XYZ".index(order[0])] = 0.3 * time
    for angles in (smooth, through, rng.uniform(-4, 4, (500, 3))):
        sequence = ["XYZ".index(axis) for axis in order]
        expected = Rotation.from_euler(order.lower(), angles[:, sequence])
        found = channels.to_euler(wxyz(expected), order)
        assert (Rotation.from_euler(order.lower(), found[:, sequence]) * expected.inv()).magnitude().max() < 1e-7
    for angles in (smooth, through):
        found = channels.to_euler(channels.from_euler(angles, order), order)
        assert np.abs(np.diff(found, axis=0)).max() < 0.05


def test_axis_and_angle_never_flip():
    time = np.linspace(0, 3, 400)
    turn = rotations.from_rotation_vector(np.sin(2 * np.pi * time)[:, None] * np.array([[0.3, 1.0, 2.0]]))
    flipped = turn * np.where(np.arange(400) % 7 < 3, 1.0, -1.0)[:, None]
    found = channels.to_axis_angle(flipped)
    np.testing.assert_allclose(np.linalg.norm(found[:, 1:], axis=1), 1.0)
    back = rotations.from_rotation_vector(found[:, :1] * found[:, 1:])
    assert rotations.angle_between(back, turn).max() < 1e-9
    assert np.abs(np.diff(found, axis=0)).max() < 0.15
    still = channels.to_axis_angle(np.tile([1.0, 0, 0, 0], (3, 1)))
    np.testing.assert_allclose(still, np.tile([0.0, 0, 1, 0], (3, 1)))


def test_locked_axes_do_not_turn():
    rng = np.random.default_rng(1)
    turn = rotations.from_rotation_vector(rng.normal(0, 0.5, (50, 3)))
    hinge = channels.to_unlocked_euler(turn, (False, True, True))
    assert np.abs(hinge[:, 0]).max() > 0.1
    assert not hinge[:, 1:].any()
    np.testing.assert_array_equal(
        channels.to_unlocked_euler(turn, (False, False, False)), channels.to_euler(turn, "XYZ")
    )


# Hands among names


def negative_names():
    """Names that speak of fingers, hands or numbers and are none of a hand's joints; and some of other things."""
    names = []
    for left, right in (("{}.L", "{}.R"), ("{}_l", "{}_r"), ("Left{}", "Right{}"), ("mixamorig:Left{}", "DEF-{}.R")):
        for stem in (
            "Toe", "ToeBase", "ToeEnd", "BigToe1", "BigToe2", "IndexToe1", "IndexToe2", "MiddleToe1", "MiddleToe2",
            "RingToe1", "RingToe2", "PinkyToe1", "PinkyToe2", "LittleToe1", "SmallToe2", "ThumbToe1", "Foot",
            "FootIndex1", "FootThumb1", "FootRing1", "FootMiddle1", "Tail01", "Tail_Middle_01", "TailRing2",
            "Tentacle1", "TentacleIndex01", "TentacleMiddle01", "TentacleRing01", "TentaclePinky01", "TentacleThumb01",
            "HandTwist", "HandTwist1", "ForeArmTwist", "WristTwist", "ThumbTwist1", "IndexTwist2", "MiddleTwist1",
            "RingTwist3", "PinkyTwist1", "HandIK", "HandPole", "HandProp", "HandWeapon", "HandSocket", "HandAttach",
            "IndexHelper1", "MiddleHelper1", "RingHelper1", "PinkyHelper1", "ThumbHelper1", "ThumbCorrective1",
            "IndexMaster", "FingerSpread", "FingersCurl", "ThumbMaster", "IndexIK", "MiddleIK", "RingIKTarget",
            "Earring1", "EarRing2", "NoseRing", "KneeMiddle1", "SpineMiddle1", "LipMiddle", "LipRing1", "EyeRing1",
            "BrowMiddle", "BrowIndex1", "HairMiddle2", "HairRing1", "SkirtMiddle1", "SkirtRing2", "CapeIndex1",
            "Arm", "ForeArm", "UpperArm", "Shoulder", "Leg", "UpLeg", "Index", "Wing1", "WingFinger1", "WingThumb2",
            "BraceletRing", "HandNail", "ThumbNail1", "IndexNail1", "MiddleNail1", "RingNail1", "FingerNail1",
        ):  # fmt: skip
            names += [left.format(stem), right.format(stem)]
    names += [f"Bone.{number:03}" for number in range(20)] + [f"Tentacle.{number:03}" for number in range(20)]
    names += ["Root", "Hips", "Spine", "Spine1", "Neck", "Head", "palm", "middle", "ring", "index", "second", "Third1"]
    return sorted(set(names))


def listed(rig_map):
    """Every name of a rig map once, hands and metacarpals."""
    hands = rig_map.hands.values()
    return list(dict.fromkeys(bone for hand in hands for bone in (*hand.bones, *hand.metacarpals.values())))


@pytest.mark.parametrize("surrounded", [False, True], ids=["alone", "among others"])
@pytest.mark.parametrize("rig_map", KNOWN, ids=lambda each: each.name)
def test_names_alone_tell_every_bone_of_every_known_rig(rig_map, surrounded):
    names = listed(rig_map) + (negative_names() if surrounded else [])
    np.random.default_rng(1).shuffle(names)
    found = hands_by_name([Bone(name) for name in names])
    if None in found:  # one armature a hand: the names do not tell the side
        assert rig_map.hands["left"] == rig_map.hands["right"]
        assert found == {None: rig_map.hands["left"]}
    else:
        assert found == rig_map.hands


@pytest.mark.parametrize("rig_map", KNOWN, ids=lambda each: each.name)
def test_known_rigs_are_recognised_whatever_their_namespace_and_case(rig_map):
    names = [f"Character:{name.rpartition(':')[2].upper()}" for name in listed(rig_map)] + negative_names()
    found = detect_hands([Bone(name) for name in names], KNOWN)
    bare = {plain: name for name in names if (plain := name.rpartition(":")[2].casefold())}
    assert found.score == 1.0 if len(found.rig_map.hands) == 2 else 0.5
    for side, hand in found.rig_map.hands.items():
        expected = rig_map.hands[side]
        assert hand.bones == tuple(bare[bone.rpartition(":")[2].casefold()] for bone in expected.bones)


def test_rigs_are_called_by_their_name():
    alike = {"Auto-Rig Pro Humanoid Export", "MakeHuman and MPFB Game Engine"}  # to the last letter Unreal's names
    for rig_map in KNOWN:
        expected = "Unreal Engine 4 Mannequin" if rig_map.name in alike else rig_map.name
        assert detect_hands([Bone(name) for name in listed(rig_map)], KNOWN).rig_map.name == expected


def test_nothing_else_is_taken_for_a_hand():
    names = negative_names()
    assert len(names) >= 300
    assert hands_by_name([Bone(name) for name in names]) == {}
    assert detect_hands([Bone(name) for name in names], KNOWN).score == 0.0


def test_names_nobody_knows_yet():
    stems = {"thumb": "Thumb", "index": "Index", "middle": "Middle", "ring": "Ring", "pinky": "Pinkie"}
    for pattern, wrist in (
        ("robot_left_{}_j{}", "robot_left_hand"),
        ("lefthand{}{}", "LeftHand"),
        ("L_{}Finger_{:02}_jnt", "L_Hand_jnt"),
        ("ctrl.{}.{}.L", "ctrl.hand.L"),
        ("Bip001 L {} {}", "Bip001 L Hand"),
    ):
        chains = {finger: tuple(pattern.format(stem, joint) for joint in (1, 2, 3)) for finger, stem in stems.items()}
        tips = [pattern.format(stem, "4") for stem in stems.values() if "02" not in pattern]
        bones = [Bone(name) for chain in chains.values() for name in chain] + [Bone(wrist), *map(Bone, tips)]
        assert hands_by_name(bones) == {"left": HandMap(wrist, chains, {})}


def test_of_several_layers_the_controls_are_taken():
    """As in a generated Rigify rig, without knowing it."""
    rig_map = next(each for each in KNOWN if each.name == "Rigify")
    names = listed(rig_map)
    names += [f"{layer}-{name.replace('_fk', '')}" for layer in ("ORG", "DEF", "MCH") for name in names]
    assert hands_by_name([Bone(name) for name in names]) == rig_map.hands


def test_a_hand_without_a_hand_bone_hangs_on_what_carries_its_fingers():
    bones = [Bone("arm"), Bone("x7", "arm")]
    for finger in ("thumb", "index", "pinky"):
        bones += [Bone(f"{finger}_1_r", "x7"), Bone(f"{finger}_2_r", f"{finger}_1_r")]
    assert hands_by_name(bones)["right"].wrist == "x7"


def test_glued_words_come_apart():
    assert split_name("mixamorig:LeftInHandIndex") == ("left", "inhand", "index")
    assert split_name("l_indexmetacarpal") == ("l", "index", "metacarpal")
    assert split_name("CC_Base_L_Mid1") == ("cc", "base", "l", "mid", "1")
    assert split_name("rightHandPinky3_end") == ("right", "hand", "pinky", "3", "end")
    assert split_name("spring01") == ("spring", "01")


# Hands among branches


def nameless_rig(rng, model, *, side, metacarpals, tips, fingers=5):
    """A figure with meaningless names: a spine, legs with toes, and one hand of the given side far out on x."""
    keypoints = rest_pose(rng, model)
    keypoints = keypoints / np.linalg.norm(keypoints[9] - keypoints[0]) * 0.1
    keypoints += np.array([(0.7 if side == "left" else -0.7), 0, 1.2]) + rng.normal(0, 0.1, 3) - keypoints[0]
    names = iter([f"Bone.{number:03}" for number in rng.permutation(400)])
    bones, truth = [], {}

    def add(parent, head):
        bones.append(Bone(next(names), parent, np.asarray(head, float)))
        return bones[-1].name

    root = add("", [0, 0, 1])
    spine = add(add(root, [0, 0, 1.2]), [0, 0, 1.4])
    for number in range(3):  # hair
        add(add(add(spine, [0.1 * number, 0.1, 1.6]), [0.1 * number, 0.15, 1.5]), [0.1 * number, 0.15, 1.4])
    for x in (-0.1, 0.1):
        foot = add(add(add(root, [x, 0, 0.9]), [x, 0, 0.5]), [x, 0, 0.1])
        for toe in range(5):
            place = np.array([x + 0.02 * (toe - 2), -0.12, 0.02])
            add(add(foot, place + rng.normal(0, 0.003, 3)), place + [0, -0.02, 0])
    wrist = add(add(spine, [keypoints[0][0] * 0.3, 0, 1.4]), keypoints[0])
    add(wrist, keypoints[0] + 0.01)  # a socket
    for row in rng.permutation(5)[:]:
        finger = FINGERS[row]
        if fingers == 4 and finger == "ring":
            continue
        parent = wrist
        places = keypoints[4 * row + 1 : 4 * row + 5]
        if metacarpals and finger != "thumb":
            parent = add(wrist, keypoints[0] + 0.25 * (places[0] - keypoints[0]))
        chain = []
        for place in places[: 4 if tips else 3]:
            parent = add(parent, place)
            chain.append(parent)
        truth[finger] = tuple(chain[:3])
    return bones, wrist, truth


def test_shape_alone_tells_side_thumb_and_order():
    models = open_hand_models()
    rng = np.random.default_rng(11)
    right = 0
    for number in range(200):
        side = SIDES[number % 2]
        bones, wrist, truth = nameless_rig(
            rng,
            models[side],
            side=side,
            metacarpals=bool(number & 2),
            tips=bool(number & 4),
            fingers=4 if number % 5 == 0 else 5,
        )
        found = detect_hands(bones, KNOWN).rig_map.hands
        right += {name: (hand.wrist, hand.fingers) for name, hand in found.items()} == {side: (wrist, truth)}
    assert right >= 190


def test_a_lone_hand_at_the_origin_has_the_side_to_which_it_curls():
    models = open_hand_models()
    rng = np.random.default_rng(12)
    mano = next(each for each in KNOWN if each.name == "MANO")
    right = 0
    for number in range(100):
        side = SIDES[number % 2]
        vectors = np.zeros((1, 16, 3))
        vectors[0, 1:] = rng.uniform(0.1, 0.4, (15, 1)) * models[side].flexion_axes()
        vectors[0, 0] = Rotation.random(random_state=rng).as_rotvec()
        keypoints = models[side].pose_keypoints(rotations.from_rotation_vector(vectors))[0]
        heads = {mano.hands[side].wrist: keypoints[0]}
        for row, finger in enumerate(FINGERS):
            heads |= dict(zip(mano.hands[side].fingers[finger], keypoints[4 * row + 1 :], strict=False))
        found = detect_hands([Bone(name, "", place) for name, place in heads.items()], KNOWN)
        right += list(found.rig_map.hands) == [side]
    assert right >= 95


# Files


def test_maps_are_written_as_they_are_read(tmp_path):
    for rig_map in KNOWN:
        save_rig_map(rig_map, tmp_path / "map.json")
        assert load_rig_map(tmp_path / "map.json") == rig_map


def test_every_known_rig_has_whole_hands_and_a_name_of_its_own():
    assert len(KNOWN) >= 28
    assert len({rig_map.name for rig_map in KNOWN}) == len(KNOWN)
    for rig_map in KNOWN:
        assert set(rig_map.hands) == set(SIDES)
        assert all(len(hand.bones) == 16 for hand in rig_map.hands.values())


def test_the_known_rigs_are_those_of_the_collected_lists(shared):
    lists = json.loads((shared / "retargeting" / "bone_names.json").read_text("utf-8"))
    hands = [rig_map.hands for rig_map in KNOWN]
    for rig in lists.values():
        expected = {
            side: HandMap(
                rig[side]["wrist"],
                {finger: tuple(rig[side][finger]) for finger in FINGERS},
                rig[side].get("metacarpals", {}),
            )
            for side in SIDES
        }
        assert expected in hands


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda content: content.update(schema="other/1"), "no rig map of schema"),
        (lambda content: content.pop("name"), "damaged at 'name'"),
        (lambda content: content["left"]["fingers"].update(toe=["a"]), "the finger 'toe'"),
        (lambda content: content["left"]["fingers"].update(index=["a", "b", "c", "d"]), "the finger 'index'"),
        (lambda content: content["left"]["fingers"].update(index=["a", 3, "c"]), "the text 3"),
        (lambda content: content["left"].update(wrist=None), "the text None"),
        (lambda content: content["left"]["fingers"].update(index=["a", "a"]), "'a', which is named twice"),
        (lambda content: content["left"].update(metacarpals={"palm": "x"}), "the metacarpals"),
        (lambda content: [content.pop(side) for side in SIDES], "neither a left nor a right hand"),
        (lambda content: content.update(left=[]), "damaged at"),
        (lambda content: content.update(preference="high"), "the number 'high'"),
    ],
)
def test_damaged_maps_are_told(tmp_path, change, message):
    path = tmp_path / "map.json"
    save_rig_map(KNOWN[0], path)
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(SettingsError, match=message):
        load_rig_map(path)


def test_files_that_are_no_maps_are_told(tmp_path):
    for content in ("{", "[]", "null"):
        (tmp_path / "map.json").write_text(content, "utf-8")
        with pytest.raises(SettingsError, match="choose another file"):
            load_rig_map(tmp_path / "map.json")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_rig_map(tmp_path / "missing.json")
    with pytest.raises(HandCaptureError):
        save_rig_map(RigMap("x", {}), tmp_path / "no" / "folder.json")
