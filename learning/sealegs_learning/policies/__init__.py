"""What a policy may see and put out beside one vector and one action: history, images, chunks, bins."""
