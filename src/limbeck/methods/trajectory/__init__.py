"""Methods that match the path of students through the space of their parameters."""
