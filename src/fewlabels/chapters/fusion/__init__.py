"""Chapter 6: do fused models beat the best of them, and beat fused seeds of one of them?"""

from fewlabels.chapters.fusion.planning import NAME, Settings, plan, store

__all__ = ["NAME", "Settings", "plan", "store"]
