"""Small training studies: whether the operators learn, and what they do to accuracy, at a size that a CPU trains."""
