"""Stage 5: the epoch's order is planned from the index; each worker reads, decodes and augments its part of it."""
