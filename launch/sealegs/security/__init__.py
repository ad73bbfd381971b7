"""SROS2: keystores with least-privilege permissions for the nodes of the graph, written and checked without ROS."""
