"""What the sources printed and claim, and how each claim is judged."""
