"""Input of a training run by step: crops of photos, samples, latents, and their loading."""
