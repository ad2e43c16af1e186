"""The front door: HTTP in, HTTP out, nothing else.

Floor 5. `middleware` is passed by every request; `chat` is the main job; `replies` are the ways in which a caller is
kept waiting.
"""
