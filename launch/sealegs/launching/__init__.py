"""Runs ROS 2 launch files (XML) where ROS's own `launch` is missing: a documented subset, strict about the rest.

parse.py  file -> actions        substitution.py  $(var ...) and its kin
evaluate.py  actions + arguments -> processes     session.py  runs the processes, and leaves none behind
"""

from sealegs.launching.evaluate import LaunchPlan, plan_launch
from sealegs.launching.files import find_launch_file, shipped_launch_files
from sealegs.launching.session import LaunchSession

__all__ = ["LaunchPlan", "LaunchSession", "find_launch_file", "plan_launch", "shipped_launch_files"]
