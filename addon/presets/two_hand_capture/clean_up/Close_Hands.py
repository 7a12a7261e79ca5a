import bpy


bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.identity = True
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.wrist_rotation = 1.0
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.wrist_position = 1.0
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.fingers = 1.0
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.fill = 1.0
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.beyond = "still"
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.limits = True
bpy.context.scene.two_hands.takes[bpy.context.scene.two_hands.active_take].clean_up.contact = "fingers"
