"""Real samples whose captions or labels are learned."""
