"""Hands found on rigs that no map knows: bone lists of rigs that are in use, as their makers name them.

The names are facts about those rigs, collected from add-ons, game tools and exporters that speak to them. `LEFT` lists
what has to be found on one side; the other side's names follow from the rig's own words for the sides. `BESIDE` are
other bones of the same rigs that must not be taken.
"""

import re
from dataclasses import dataclass

import numpy as np
import pytest

from dir_core.conventions import FINGERS
from dir_core.retargeting.detection import detect_hands
from dir_core.retargeting.rig_map import HandMap, known_rig_maps
from dir_core.retargeting.skeleton import Bone

KNOWN = known_rig_maps()


@dataclass(frozen=True)
class Rig:
    """A rig's hand bones.

    Attributes:
        sides: what the names of the left side have, and the right side has instead.
        wrist: the hand's bone on the left.
        fingers: of the left hand, thumb first, knuckle first; a row of names a finger, joined by commas.
        beside: other bones, joined by commas; left ones have right ones as well.
        metacarpals: of the left hand, index first.
        swap: where the side stands in a name, as an expression, if it stands there in other places too.
    """

    sides: tuple[str, str]
    wrist: str
    fingers: tuple[str, ...]
    beside: str = ""
    metacarpals: tuple[str, ...] = ()
    swap: str = ""


def each(pattern, words, joints=(1, 2, 3)):
    """A row of names per finger."""
    return tuple(",".join(pattern.format(word, joint) for joint in joints) for word in words)


PINKY = ("Thumb", "Index", "Middle", "Ring", "Pinky")
LITTLE = (*PINKY[:4], "Little")
LOWER = tuple(word.lower() for word in PINKY)

RIGS = {
    "Advanced Skeleton": Rig(
        ("_L", "_R"),
        "Wrist_L",
        each("{}Finger{}_L", PINKY),
        "ThumbFinger4_L,IndexFinger4_L,MiddleFinger4_L,RingFinger4_L,PinkyFinger4_L,Cup_L,Elbow_L,ElbowPart1_L,Toes_L",
    ),
    "Advanced Skeleton Controls": Rig(
        ("_L", "_R"),
        "FKWrist_L",
        each("FK{}Finger{}_L", PINKY),
        ",".join(
            each("FKOffset{}Finger{}_L", PINKY) + each("FKExtra{}Finger{}_L", PINKY) + each("FKX{}Finger{}_L", PINKY)
        )
        + ",Fingers_L,IKArm_L,PoleArm_L,FKElbow_L,FKOffsetWrist_L,FKExtraWrist_L,FKXWrist_L",
    ),
    "HumanIK": Rig(
        ("Left", "Right"),
        "Character1_LeftHand",
        each("Character1_LeftHand{}{}", PINKY),
        ",".join(f"Character1_LeftInHand{word}" for word in PINKY[1:])
        + ",Character1_LeftForeArm,Character1_LeftHandThumb4",
    ),
    "Perception Neuron": Rig(
        ("Left", "Right"),
        "Robot_LeftHand",
        each("Robot_LeftHand{}{}", PINKY),
        ",".join(f"Robot_LeftInHand{word}" for word in PINKY[1:]) + ",Robot_LeftForeArm",
    ),
    "OptiTrack": Rig(("L", "R"), "LHand", each("L{}{}", PINKY), "LFArm,LUArm,LToe,LFoot", swap="^L"),
    "Source": Rig(
        ("_L_", "_R_"),
        "ValveBiped.Bip01_L_Hand",
        each("ValveBiped.Bip01_L_Finger{}{}", range(5), ("", 1, 2)),
        "ValveBiped.Bip01_L_Forearm,ValveBiped.Bip01_L_Ulna,ValveBiped.Bip01_L_Wrist,ValveBiped.Anim_Attachment_LH",
    ),
    "Source 2": Rig(
        ("_L", "_R"),
        "hand_L",
        each("finger_{}_{}_L", LOWER, range(3)),
        "weapon_hand_L,arm_lower_L_TWIST,arm_lower_L",
        tuple(f"finger_{word}_meta_L" for word in LOWER[1:]),
    ),
    "SteamVR Glove": Rig(
        ("_l", "_r"),
        "wrist_l",
        each("finger_{}_{}_l", LOWER, range(3)),
        ",".join(f"finger_{word}_l_end,finger_{word}_l_aux" for word in LOWER),
        tuple(f"finger_{word}_meta_l" for word in LOWER[1:]),
    ),
    "Second Life": Rig(
        ("Left", "Right"), "mWristLeft", each("mHand{}{}Left", PINKY), "mElbowLeft,mWingLeft,mWing1Left,mFootLeft"
    ),
    "Oculus": Rig(
        ("_l_", "_r_"),
        "b_l_wrist",
        each("b_l_{}{}", LOWER),
        "b_l_forearm_stub,b_l_thumb0,b_l_index_null,b_l_thumb_null,b_l_grip,l_index_finger_tip_marker",
    ),
    "OpenXR in Unity": Rig(
        ("Left", "Right"),
        "LeftHand_Wrist",
        ("LeftHand_ThumbMetacarpal,LeftHand_ThumbProximal,LeftHand_ThumbDistal",)
        + each("LeftHand_{}{}", LITTLE[1:], ("Proximal", "Intermediate", "Distal")),
        ",".join(f"LeftHand_{word}Tip" for word in LITTLE) + ",LeftHand_Palm",
        tuple(f"LeftHand_{word}Metacarpal" for word in LITTLE[1:]),
    ),
    "Ultraleap": Rig(
        ("L_", "R_"),
        "L_Wrist",
        ("L_thumb_meta,L_thumb_a,L_thumb_b",) + each("L_{}_{}", LOWER[1:], "abc"),
        ",".join(f"L_{word}_end" for word in LOWER) + ",L_Palm,L_Elbow",
        tuple(f"L_{word}_meta" for word in LOWER[1:]),
    ),
    "Booth Avatar": Rig(
        ("_L", "_R"),
        "Hand_L",
        each("{} {}_L", LITTLE, ("Proximal", "Intermediate", "Distal")),
        "Lower arm_L,Toes_L,Thumb Distal_L_end,Index Distal_L_end,Sleeve_L_1",
    ),
    "Booth Avatar, Words the Other Way": Rig(
        (".L", ".R"), "Hand.L", each("{1}{0}.L", LITTLE, ("Proximal", "Intermediate", "Distal")), "LowerArm.L,Foot.L"
    ),
    "XNALara": Rig(
        ("left", "right"),
        "arm left wrist",
        each("arm left finger {}{}", range(1, 6), "abc"),
        "arm left elbow,leg left toes",
    ),
    "Fallout 4": Rig(
        ("LArm", "RArm"), "LArm_Hand", each("LArm_Finger{}{}", range(1, 6)), "LArm_ForeArm1,LArm_ForeArm2"
    ),
    "Skyrim": Rig(
        ("L", "R"),
        "NPC L Hand [LHnd]",
        tuple(
            ",".join(f"NPC L Finger{finger}{joint} [LF{finger}{joint}]" for joint in range(3)) for finger in range(5)
        ),
        "NPC L Forearm [LLar],NPC L Foot [Lft ],NPC L Toe0 [LToe],NPC L ForearmTwist1 [LLt1]",
        swap=r"\bL\b",
    ),
    "GTA V": Rig(
        ("_L_", "_R_"),
        "SKEL_L_Hand",
        each("SKEL_L_Finger{}{}", range(5), range(3)),
        "SKEL_L_Forearm,IK_L_Hand,PH_L_Hand",
    ),
    "The Sims 4": Rig(
        ("_L_", "_R_"),
        "b__L_Hand__",
        each("b__L_{}{}__", ("Thumb", "Index", "Mid", "Ring", "Pinky"), range(3)),
        "b__L_Forearm__,b__L_HandDangle__,b__L_Toe__",
    ),
    "Koikatsu": Rig(
        ("_L", "_R"),
        "cf_j_hand_L",
        each("cf_j_{}0{}_L", ("thumb", "index", "middle", "ring", "little")),
        "cf_s_hand_L,cf_d_hand_L,cf_j_forearm01_L,cf_j_toes_L,cf_d_arm03_L",
    ),
    "3ds Max CAT": Rig(
        ("LArm", "RArm"),
        "",
        each("CATRigLArmDigit{}{}", range(1, 6)),
        "CATRigLArmPalm,CATRigLArm1,CATRigLArmCollarbone",
    ),
    "Digital Human Names": Rig(
        ("_l", "_r"),
        "wrist_l",
        ("thumb_cmc_l,thumb_mcp_l,thumb_ip_l",) + each("{}_{}_l", LOWER[1:], ("mcp", "pip", "dip")),
        ",".join(f"{word}_tip_l" for word in LOWER),
    ),
    "MHX": Rig(
        (".L", ".R"),
        "hand.fk.L",
        ("thumb.01.L,thumb.02.L,thumb.03.L",) + each("f_{}.0{}.L", LOWER[1:]),
        "hand.ik.L,hand.L,wrist.L,thumb.L,index.L,middle.L,ring.L,pinky.L,forearm.fk.L,DEF-hand.L",
        tuple(f"palm_{word}.L" for word in LOWER[1:]),
    ),
    "BlenRig": Rig(
        ("_L", "_R"),
        "hand_fk_L",
        ("fing_thumb_1_L,fing_thumb_2_L,fing_thumb_3_L",)
        + each("fing_{}_{}_L", ("ind", "mid", "ring", "lit"), (2, 3, 4)),
        ",".join(f"fing_{w}_ctrl_L,fing_{w}_ik_L,fing_{w}_hinge_L" for w in ("thumb", "ind", "mid", "ring", "lit"))
        + ",hand_ik_ctrl_L,hand_L,hand_close_L,fing_spread_L,fing_ind_str_1_L,fing_ind_str_2_L,fing_ind_str_3_L"
        + ",fing_mid_4_toon_L,fing_ind_fix_up_1_L,fing_ind_ctrl_mstr_L,fing_ind_3_rot_L,fing_lit_end_L",
        tuple(f"fing_{word}_1_L" for word in ("ind", "mid", "ring", "lit")),
    ),
    "BlenRig before 5": Rig(
        (".L", ".R"),
        "hand_fk.L",
        ("fing_thumb_1.L,fing_thumb_2.L,fing_thumb_3.L",)
        + each("fing_{}_{}.L", ("ind", "mid", "ring", "lit"), (2, 3, 4)),
        ",".join(f"fing_{w}_ctrl.L,fing_{w}_hinge.L" for w in ("thumb", "ind", "mid", "ring", "lit"))
        + ",wrist_fix_up.L",
        tuple(f"fing_{word}_1.L" for word in ("ind", "mid", "ring", "lit")),
    ),
    "MMD": Rig(
        ("左", "右"),
        "左手首",
        ("左親指０,左親指１,左親指２",) + each("左{}指{}", "人中薬小", "１２３"),
        "左手捩,左ひじ,左腕,左足,左足首,左つま先,左人指先,左親指先,左手先,左ダミー,左足ＩＫ,左手捩1",
    ),
    "MMD in Blender": Rig(
        (".L", ".R"),
        "手首.L",
        ("親指０.L,親指１.L,親指２.L",) + each("{}指{}.L", "人中薬小", "１２３"),
        "手捩.L,ひじ.L,足首.L,人指先.L,_dummy_手捩.L,_shadow_手捩.L",
    ),
    "MMD without Thumb Root": Rig(
        ("左", "右"),
        "左手首",
        ("左親指1,左親指2",) + each("左{}指{}", ("人差", "中", "薬", "小"), "123"),
        "左ひじ,左足首",
    ),
    "MMD, English Names": Rig(
        ("_L", "_R"),
        "wrist_L",
        ("thumb0_L,thumb1_L,thumb2_L",) + each("{}{}_L", ("fore", "middle", "third", "little")),
        "elbow_L,arm twist_L,wrist twist_L,toe IK_L",
    ),
    "MMD, Romanised": Rig(
        ("_L", "_R"),
        "tekubi_L",
        ("oyayubi0_L,oyayubi1_L,oyayubi2_L",) + each("{}yubi{}_L", ("hitosashi", "naka", "kusuri", "ko")),
        "hiji_L,ude_L,ashikubi_L",
    ),
    "Chinese Names": Rig(
        ("左", "右"), "左手腕", each("左{}{}", ("拇指", "食指", "中指", "无名指", "小指")), "左前臂,左脚,左脚趾"
    ),
    "Extruded by Hand": Rig(
        (".L", ".R"), "hand.L", each("{}.L{}", LOWER, ("", ".001", ".002")), "forearm.L,upper_arm.L,Bone.001,Bone.002"
    ),
    "mGear": Rig(
        ("_L", "_R"),
        "",
        ("thumb_L0_0_jnt,thumb_L0_1_jnt,thumb_L0_2_jnt",)
        + tuple(",".join(f"finger_L{finger}_{joint}_jnt" for joint in range(3)) for finger in range(4)),
        "arm_L0_0_jnt,arm_L0_1_jnt,arm_L0_4_jnt,meta_L0_0_jnt",
    ),
    "X3D HAnim": Rig(
        ("l_", "r_"),
        "l_wrist",
        each("l_{}{}", LOWER),
        "l_elbow,l_shoulder,l_talocrural,l_pinky_distal_tip,l_tarsal_proximal_phalanx_1",
        tuple(f"l_{word}0" for word in LOWER[1:]),
        swap="^l_",
    ),
    "MHR": Rig(
        ("l_", "r_"),
        "l_wrist",
        each("l_{}{}", LOWER),
        "l_thumb0,l_pinky0,l_thumb_null,l_index_null,l_lowarm,l_lowarm_twist1_proc,l_wrist_twist,l_foot,l_ball",
        swap="^l_",
    ),
    "CloudRig": Rig(
        (".L", ".R"),
        "Wrist.L",
        each("Finger_{}{}.L", PINKY),
        ",".join(each("DEF-Finger_{}{}.L", PINKY) + each("STR-Finger_{}{}.L", PINKY))
        + ",IK-Wrist.L,DEF-Wrist.L,Finger_Pinky_Carpal.L,IK-MSTR-Wrist.L,Toes.L,Forearm.L",
    ),
    "MakeHuman before 1.1": Rig(
        (".L", ".R"),
        "hand.L",
        ("finger1-1.L,finger1-2.L,finger1-3.L",) + each("finger{}-{}.L", range(2, 6), (2, 3, 4)),
        "lowerarm.L,toe2-1.L,foot.L",
        tuple(f"finger{finger}-1.L" for finger in range(2, 6)),
    ),
    "Yakuza": Rig(
        ("_l_", "_r_"), "", each("{}{}_l_n", ("oya", "hito", "naka", "kusu", "koyu")), "ude1_l_n,asi3_l_n,kata_l_n"
    ),
    "iClone": Rig(
        ("_L_", "_R_"),
        "CC_Base_L_Hand",
        each("CC_Base_L_Finger{}{}", range(5), range(3)),
        "CC_Base_L_Forearm,CC_Base_L_Foot",
    ),
    "Rocketbox": Rig(
        (" L ", " R "),
        "Bip01 L Hand",
        each("Bip01 L Finger{}{}", range(5), ("", 1, 2)),
        "Bip01 L Toe0,Bip01 L Finger0Nub",
    ),
    "VRM Add-on": Rig(
        (".L", ".R"),
        "hand.L",
        ("thumb.metacarpal.L,thumb.proximal.L,thumb.distal.L",)
        + each("{}.{}.L", (*LOWER[1:4], "little"), ("proximal", "intermediate", "distal")),
        "lower_arm.L,upper_arm.L,toes.L,foot.L",
    ),
    "Cascadeur and Quaternius": Rig(
        ("_l", "_r"), "hand_l", each("{}_0{}_l", LOWER), ",".join(f"{word}_04_leaf_l" for word in LOWER) + ",lowerarm_l"
    ),
}


def on_the_right(name, rig):
    """A left bone's name on the right."""
    swapped = re.sub(rig.swap or re.escape(rig.sides[0]), rig.sides[1], name, count=1)
    assert swapped != name
    return swapped


def wanted_hands(rig):
    fingers = {finger: tuple(row.split(",")) for finger, row in zip(FINGERS, rig.fingers, strict=True)}
    metacarpals = dict(zip(FINGERS[1:], rig.metacarpals, strict=False))
    left = HandMap(rig.wrist, fingers, metacarpals)
    right = HandMap(
        on_the_right(rig.wrist, rig) if rig.wrist else "",
        {finger: tuple(on_the_right(name, rig) for name in chain) for finger, chain in fingers.items()},
        {finger: on_the_right(name, rig) for finger, name in metacarpals.items()},
    )
    return {"left": left, "right": right}


def all_names(rig):
    hands = wanted_hands(rig)
    names = [name for hand in hands.values() for name in (*hand.bones, *hand.metacarpals.values())]
    for name in filter(None, rig.beside.split(",")):
        names += (
            [name] if re.search(rig.swap or re.escape(rig.sides[0]), name) is None else [name, on_the_right(name, rig)]
        )
    return names + ["Hips", "Spine", "Neck", "Head"]


@pytest.mark.parametrize("name", RIGS)
def test_rigs_that_no_map_knows_are_found_by_their_names(name):
    rig = RIGS[name]
    names = all_names(rig)
    np.random.default_rng(5).shuffle(names)
    found = detect_hands([Bone(each) for each in names], KNOWN).rig_map.hands
    for side, hand in wanted_hands(rig).items():
        assert side in found
        assert dict(found[side].fingers) == hand.fingers
        assert found[side].wrist == hand.wrist


METAHUMAN_HELPERS = (
    "{}_01_half", "{}_02_half", "{}_03_half", "{}_01_mcp", "{}_02_pip", "{}_02_dip", "{}_01_palm", "{}_01_palmMid",
    "{}_01_bulge", "{}_02_bulge", "{}_03_bulge", "{}_01_side_inn", "{}_01_side_out", "{}_02_in", "{}_03_in",
    "{}_metacarpal_slide", "{}_04",
)  # fmt: skip
"""Bones that bulge and stretch a MetaHuman's fingers; every finger has most of them."""


def test_helpers_at_the_knuckles_are_no_joints():
    names = [f"{pattern.format(word)}_l" for word in LOWER for pattern in METAHUMAN_HELPERS]
    names += ["wrist_inner_l", "wrist_outer_l", "hand_l", "lowerarm_twist_01_l", "lowerarm_correctiveRoot_l"]
    joints = {finger: tuple(f"{finger}_0{joint}_l" for joint in (1, 2, 3)) for finger in FINGERS}
    names += [name for chain in joints.values() for name in chain]
    names += [f"{word}_metacarpal_l" for word in LOWER[1:]]
    for known in (KNOWN, ()):
        hand = detect_hands([Bone(name) for name in names], known).rig_map.hands["left"]
        assert hand.wrist == "hand_l"
        assert dict(hand.fingers) == joints


def test_numbers_that_a_converter_put_behind_every_bone_do_not_matter():
    mixamo = next(rig_map for rig_map in KNOWN if rig_map.name == "Mixamo")
    names = ["mixamorig:Hips", "mixamorig:Spine", *(bone for hand in mixamo.hands.values() for bone in hand.bones)]
    bones = [Bone(f"{name}_0{number}") for number, name in enumerate(names, start=1)]
    found = detect_hands(bones, KNOWN)
    assert (found.rig_map.name, found.score) == ("Mixamo", 1.0)
    written = {bone.name.rpartition("_")[0]: bone.name for bone in bones}
    for side, hand in found.rig_map.hands.items():
        assert hand.bones == tuple(written[bone] for bone in mixamo.hands[side].bones)


def test_fingers_have_the_side_of_the_hand_that_carries_them():
    """As where the right hand is a copy of the left one whose bones Blender numbered."""
    bones = [Bone("Hips")]
    for hand, copy in (("Hand_L", ""), ("Hand_R", ".001")):
        bones.append(Bone(hand, "Hips"))
        for word in PINKY[:4]:
            chain = [f"{word}{joint}{copy}" for joint in (1, 2, 3)]
            bones += [Bone(name, parent) for name, parent in zip(chain, (hand, *chain), strict=False)]
    found = detect_hands(bones, KNOWN).rig_map.hands
    for side, hand, copy in (("left", "Hand_L", ""), ("right", "Hand_R", ".001")):
        assert found[side].wrist == hand
        assert found[side].fingers["index"] == tuple(f"Index{joint}{copy}" for joint in (1, 2, 3))
        assert set(found[side].fingers) == set(FINGERS[:4])


def test_toes_with_the_names_of_fingers_are_none():
    bones = [Bone("Leg_L"), Bone("Foot_L", "Leg_L")]
    for word in PINKY:
        chain = [f"{word}{joint}_L" for joint in (1, 2, 3)]
        bones += [Bone(name, parent) for name, parent in zip(chain, ("Foot_L", *chain), strict=False)]
    assert detect_hands(bones, KNOWN).score == 0.0


def test_words_of_other_languages_that_are_no_hands():
    sides = ("左{}", "右{}", "{}.L", "{}.R")
    stems = (
        "足", "足首", "足ＩＫ", "足先EX", "つま先", "つま先ＩＫ", "足親指", "足人指１", "足中指１", "足薬指１",
        "足小指１", "足小指２", "ひざ", "腕", "腕捩", "手捩", "手捩1", "手捩2", "肩", "肩P", "肩C", "ひじ", "目",
        "髪１", "袖", "スカート_0_0", "手先", "人指先", "ダミー", "指先", "胸１", "脚", "脚趾",
    )  # fmt: skip
    names = [side.format(stem) for side in sides for stem in stems] + ["首", "頭", "上半身", "下半身", "センター", "先"]
    assert detect_hands([Bone(name) for name in names], KNOWN).score == 0.0
