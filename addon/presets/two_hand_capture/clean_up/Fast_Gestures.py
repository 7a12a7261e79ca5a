import bpy


bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.identity = True
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.wrist_rotation = 0.6
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.wrist_position = 0.6
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.fingers = 0.6
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.fill = 0.5
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.beyond = "still"
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.limits = True
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.contact = "hands"
