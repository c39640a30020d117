"""Methods that draw samples from a generative prior."""
