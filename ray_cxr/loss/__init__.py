"""Stage 7: the weighted multi-task loss."""
