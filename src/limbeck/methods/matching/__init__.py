"""Methods that match what encoders or networks see of real and synthetic samples."""
