"""Chapter 2: by what angle was the image turned, and what a convolution knows of turning."""

from fewlabels.chapters.rotation_equivariance.planning import NAME, Settings, plan, store

__all__ = ["NAME", "Settings", "plan", "store"]
