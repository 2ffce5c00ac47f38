"""Chapter 1: does predicting rotations help to read digits with few labels?"""

from fewlabels.chapters.rotnet_mnist.planning import NAME, Settings, plan, store

__all__ = ["NAME", "Settings", "plan", "store"]
