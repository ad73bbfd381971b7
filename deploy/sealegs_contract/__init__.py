"""The waist of Sealegs: data types and pure logic shared by simulator, learning, deployment and ROS nodes.

Depends on numpy, pydantic and PyYAML only.
"""
