"""Self-supervised pretext tasks, one file each: its views and its loss."""
