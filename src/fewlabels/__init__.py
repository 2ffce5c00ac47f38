"""Learning with few labels: a replication report that runs."""

__version__ = "0.1.0"
