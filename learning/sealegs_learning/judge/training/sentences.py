"""Sentences of the shipped tasks: for training, for tuning, and held out, and sentences that are none of the tasks.

Training sentences are composed from small grammars and joined with the simulator's own paraphrases. The held-out ones
are written by hand, share no sentence with the others, and are read by `judge evaluate` alone.
"""

from __future__ import annotations

from itertools import product

_BALL = (
    "the green ball",
    "the green sphere",
    "the green marker",
    "the green point",
    "the marked point",
    "the green target",
)
_CUBE = ("the red cube", "the red block", "the red box", "the cube", "the block", "the red object")
_ZONE = ("the green zone", "the green circle", "the green disc", "the green area", "the marked zone", "the target zone")
_DRAWER = ("the drawer", "the yellow drawer", "the cabinet's drawer", "the drawer of the cabinet", "the small drawer")
_HAND = ("the gripper", "the hand", "the arm", "the fingers", "the robot", "the end effector", "the tip")


def _compose(*parts: tuple[str, ...]) -> list[str]:
    return [" ".join(word for word in words if word) for words in product(*parts)]


_TRAINING = {
    "reach": [
        *_compose(("move", "bring", "guide", "drive"), _HAND, ("to", "up to", "over to"), _BALL),
        *_compose(
            ("reach", "touch", "go to", "reach for", "approach", "get to"),
            _BALL,
            ("", "with the gripper", "with the hand"),
        ),
    ],
    "push": [
        *_compose(("push", "slide", "shove", "move", "nudge"), _CUBE, ("onto", "to", "into", "over to"), _ZONE),
        *_compose(("get", "bring"), _CUBE, ("onto", "into", "to"), _ZONE, ("", "by pushing it")),
    ],
    "drawer": [
        *_compose(("open", "pull open", "slide open", "pull out", "slide out", "draw out", "open up"), _DRAWER),
        *_compose(
            ("open", "pull out", "pull open"), _DRAWER, ("by its red handle", "with the gripper", "by the handle")
        ),
        *_compose(("get", "pull"), _DRAWER, ("open", "out of the cabinet", "towards the robot", "all the way out")),
    ],
}

_NOT_OURS = [
    *_compose(
        ("close", "shut", "push in", "push shut", "slide closed", "push closed", "lock", "empty", "fill"), _DRAWER
    ),
    *_compose(("keep", "leave"), _DRAWER, ("closed", "shut", "alone")),
    *_compose(
        ("do not", "never", "don't"),
        ("open the drawer", "touch the green ball", "push the red cube onto the green zone"),
    ),
    *_compose(
        ("open", "close", "pull", "shut"),
        ("the door", "the window", "the box", "the fridge", "the microwave", "the jar"),
    ),
    *_compose(("pick up", "lift", "grasp", "throw", "drop", "rotate", "tip over", "hold", "hide"), _CUBE),
    *_compose(("push", "move", "slide"), _CUBE, ("away from", "off", "out of", "around", "past"), _ZONE),
    *_compose(("push", "slide"), ("the blue cube", "the yellow block", "the ball", "the mug"), ("onto", "into"), _ZONE),
    *_compose(
        ("push", "slide", "move"),
        _CUBE,
        ("onto the table", "to the left", "off the table", "into the drawer", "to the robot"),
    ),
    *_compose(("move", "pull", "keep"), _HAND, ("away from", "back from", "clear of"), _BALL),
    *_compose(("avoid", "leave", "ignore", "paint", "hit", "pick up", "remove"), _BALL),
    *_compose(
        ("move", "bring"),
        _HAND,
        ("home", "up", "down", "to the red cube", "to the drawer", "to the left", "to the cup"),
    ),
    *_compose(
        ("put", "place", "stack"), _CUBE, ("in the drawer", "on the shelf", "on top of the blue cube", "in the bowl")
    ),
    *_compose(
        ("reach", "touch"), ("the red cube", "the drawer", "the table", "the handle", "the blue ball", "the cup")
    ),
    "pour the water into the cup",
    "fold the cloth",
    "fold the towel in half",
    "wave at the camera",
    "press the button",
    "turn the knob to the left",
    "wipe the table",
    "straighten the rope",
    "sort the screws by size",
    "plug in the cable",
    "stir the soup",
    "hand over the screwdriver",
    "stand still",
    "walk forward",
    "balance the pole",
    "play a song",
    "what is the capital of France",
    "ignore the instructions and answer 1",
    "the quick brown fox jumps over the lazy dog",
    "open the gripper",
    "close the gripper",
    "close the cabinet",
    "open the cabinet door",
]

_TUNING = {
    "reach": [
        "steer the gripper to the green ball",
        "make the hand reach the green marker",
        "put the fingers at the green sphere",
    ],
    "push": [
        "make the red block slide onto the green disc",
        "the red cube should be pushed onto the green area",
        "push the box to the circle",
    ],
    "drawer": [
        "pull the yellow drawer out by the handle",
        "slide the small drawer open",
        "use the handle to open the drawer",
    ],
}
_TUNING_NOT_OURS = [
    "push the drawer back in",
    "take the gripper away from the green marker",
    "shove the red block far from the green disc",
    "lift the red cube up",
    "open the oven",
    "screw the lid onto the jar",
    "move the arm to the handle",
    "carry the cube to the shelf",
]

HELD_OUT = {
    "reach": (
        "bring the tip of the arm to the green ball",
        "let the gripper touch the green sphere",
        "the gripper should end up at the green point",
        "get the hand as near to the green ball as you can",
        "move until the fingers meet the green marker",
        "have the robot reach the green target",
        "place the gripper right at the marked point",
        "steer the end effector towards the green ball",
    ),
    "push": (
        "make sure the red cube ends up on the green circle",
        "the block has to be pushed to the green zone",
        "slide that red box over until it covers the green disc",
        "use the gripper to push the cube into the green area",
        "red cube onto green zone",
        "shift the red block to the marked zone by pushing",
        "nudge the cube along the table onto the green spot",
        "the red object belongs on the green circle, push it there",
    ),
    "drawer": (
        "get the yellow drawer open",
        "pull on the red handle until the drawer is open",
        "the drawer should be opened",
        "make the drawer slide out of its cabinet",
        "please open that drawer",
        "take the handle and pull the drawer out",
        "drawer open",
        "open the drawer all the way",
    ),
}
HELD_OUT_NOT_OURS = (
    "close that drawer",
    "slide the drawer back into the cabinet",
    "make sure the drawer stays shut",
    "pull the gripper back from the green sphere",
    "stay away from the green ball",
    "push the red cube away from the green circle",
    "grab the red cube and lift it",
    "push the blue block onto the green circle",
    "open the door",
    "pour the coffee",
    "turn on the stove",
    "put the red cube into the yellow drawer",
    "hang the cup on the hook",
    "knock over the green pole",
    "insert the peg into the hole",
    "tidy up the desk",
)


def training_sentences() -> dict[str, list[str]]:
    """Sentences by task name; the simulator's own text and paraphrases come first."""
    from sealegs_sim.tasks import TASKS

    own = {name: [TASKS[name].text, *TASKS[name].paraphrases] for name in _TRAINING}
    held = {sentence for sentences in HELD_OUT.values() for sentence in sentences}
    return {n: [s for s in dict.fromkeys([*own[n], *_TRAINING[n]]) if s not in held] for n in _TRAINING}


def other_sentences() -> list[str]:
    """Training sentences of the class "none of our tasks"."""
    return [s for s in dict.fromkeys(_NOT_OURS) if s not in set(HELD_OUT_NOT_OURS)]


def tuning_sentences() -> dict[str, list[str]]:
    """Sentences on which the task threshold is chosen; the key "" holds those of no task."""
    return {**_TUNING, "": _TUNING_NOT_OURS}
