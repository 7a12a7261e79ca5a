import bpy

hands = bpy.context.scene.two_hands
settings = hands.takes[hands.active_take].clean_up

settings.identity = True
settings.wrist_rotation = 1.0
settings.wrist_position = 1.0
settings.fingers = 1.0
settings.fill = 1.0
settings.beyond = "still"
settings.limits = True
settings.contact = "fingers"
