"""Hands onto any rig: which bones are a hand's, and what turns them as the captured hand turns. numpy only."""
