"""Chapter 5: is self-supervised pretraining worth it on small medical images?"""

from fewlabels.chapters.ssl_medmnist.planning import NAME, Settings, plan, store

__all__ = ["NAME", "Settings", "plan", "store"]
