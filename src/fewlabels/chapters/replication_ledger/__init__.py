"""Chapter 8: every claim of the sources, and what became of it."""

from fewlabels.chapters.replication_ledger.planning import NAME, Settings, inputs, plan, store

__all__ = ["NAME", "Settings", "inputs", "plan", "store"]
