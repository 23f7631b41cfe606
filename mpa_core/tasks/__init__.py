"""What a recipe is made of: samples, photos, metrics, perceptual distances, packaged models."""
