"""Generative priors: pipelines behind one interface, their fine-tuning, sampling, and captions for what was sampled."""
