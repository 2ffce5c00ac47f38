"""Chapter 3: ImageNet features for chest X-rays, and why healthy lungs are called ill."""

from fewlabels.chapters.chest_xray_transfer.planning import NAME, Settings, plan, store

__all__ = ["NAME", "Settings", "plan", "store"]
