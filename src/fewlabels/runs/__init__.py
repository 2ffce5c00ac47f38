"""Runs: config -> record, the store that makes each once, the sweep over many, parameters."""
