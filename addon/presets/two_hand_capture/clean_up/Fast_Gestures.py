import bpy

hands = bpy.context.scene.two_hands
settings = hands.takes[hands.active_take].clean_up

settings.identity = True
settings.wrist_rotation = 0.6
settings.wrist_position = 0.6
settings.fingers = 0.6
settings.fill = 0.5
settings.beyond = "still"
settings.limits = True
settings.contact = "hands"
