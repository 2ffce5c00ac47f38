"""Learning: the one training loop, pretext tasks, features, probes, fusion, and what they score."""
