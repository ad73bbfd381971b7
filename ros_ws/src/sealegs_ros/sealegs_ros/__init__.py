"""ROS 2 nodes: thin shells around pure objects of the contract and of deployment."""
