"""Chapter 7: auto-encoders that remove noise, and the latent plane of a variational one."""

from fewlabels.chapters.autoencoders_vae.planning import NAME, Settings, inputs, plan, store

__all__ = ["NAME", "Settings", "inputs", "plan", "store"]
