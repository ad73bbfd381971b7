"""ament_python package of the Sealegs nodes. `colcon build` in ros_ws; the rest of Sealegs comes from pip."""

import os
import sys
from glob import glob

from setuptools import setup

package = "sealegs_ros"
here = os.path.dirname(os.path.abspath(__file__))
# The launch files serve pip and ROS alike, so they live at the top of the repository. setuptools wants relative paths,
# and colcon may run this file from another folder, or from a build folder full of links.
launch = os.path.relpath(os.path.join(os.path.realpath(here), "..", "..", "..", "launch"), os.getcwd())
launch_files = sorted(glob(f"{launch}/*.launch.xml"))
if not launch_files:
    print(
        f"sealegs_ros: warning: no launch files at {os.path.abspath(launch)}: none are installed, and `ros2 launch` "
        "will find none; keep ros_ws in its checkout, or copy the checkout's folder launch/ beside ros_ws/",
        file=sys.stderr,
    )
nodes = ("robot_node", "recorder_node", "policy_node")

setup(
    name=package,
    version="0.1.0",
    packages=[package],
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{package}"]),
        (f"share/{package}", ["package.xml"]),
        (f"share/{package}/launch", launch_files),
        (f"share/{package}/launch/params", sorted(glob(f"{launch}/params/*.*"))),
    ],
    install_requires=["setuptools"],
    zip_safe=True,
    maintainer="The Sealegs developers",
    maintainer_email="maintainers@sealegs.invalid",
    description="Robot, recorder and policy nodes of Sealegs",
    license="Apache-2.0",
    entry_points={"console_scripts": [f"{node} = {package}.{node}:main" for node in nodes]},
)
