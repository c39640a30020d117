"""Pure functions: distances between sets, and the selection of real samples."""
