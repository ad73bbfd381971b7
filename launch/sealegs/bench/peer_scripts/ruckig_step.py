"""ruckig's steps towards given targets, in ruckig's own environment: python ruckig_step.py REQUEST.json ANSWER.json."""

import json
import sys
import time

import numpy as np
from ruckig import InputParameter, OutputParameter, Ruckig, RuckigError, Synchronization


def main() -> None:
    """us of each step after the `warm_up`, and how many targets it failed on."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        request = json.load(stream)
    targets = np.load(request["targets"], allow_pickle=False)
    joints = targets.shape[1]
    step, given, found = Ruckig(joints, request["period_s"]), InputParameter(joints), OutputParameter(joints)
    given.current_position, given.synchronization = targets[0], Synchronization.No
    given.current_velocity = given.current_acceleration = [0.0] * joints
    given.max_velocity, given.max_acceleration = request["velocity"], request["acceleration"]
    given.max_jerk = request["jerk"]
    took, failed = [], 0
    for target in targets:
        began = time.perf_counter_ns()
        given.target_position = target
        try:
            step.update(given, found)
            np.array(found.new_position)
            found.pass_to_input(given)
        except RuckigError:
            failed += 1
        took.append((time.perf_counter_ns() - began) / 1e3)
    with open(sys.argv[2], "w", encoding="utf-8") as stream:
        json.dump({"us": took[request["warm_up"] :], "failed": failed}, stream)


main()
