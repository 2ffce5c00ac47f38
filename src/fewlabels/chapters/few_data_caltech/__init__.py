"""Chapter 4: how far do 177 photographs of four objects go?"""

from fewlabels.chapters.few_data_caltech.planning import NAME, Settings, interval, plan, store

__all__ = ["NAME", "Settings", "interval", "plan", "store"]
