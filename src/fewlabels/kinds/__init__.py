"""Kinds of runs: each a config that knows how to execute itself."""
