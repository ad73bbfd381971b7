"""Real nodes in processes of their own, and who stands beside them."""
