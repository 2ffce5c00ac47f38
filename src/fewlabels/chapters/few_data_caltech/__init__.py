"""Chapter 4: how far do 177 photographs of four objects go?"""

from fewlabels.chapters.few_data_caltech.planning import (
    NAME,
    TEST_TO_TRAIN,
    Settings,
    plan,
    store,
)

__all__ = ["NAME", "TEST_TO_TRAIN", "Settings", "plan", "store"]
