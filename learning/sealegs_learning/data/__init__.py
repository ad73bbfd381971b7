"""Bags to datasets: reading MCAP without ROS, alignment by message time, and the LeRobot v3 directory layout."""
