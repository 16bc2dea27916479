"""Stage 3: patients are dealt out to test, validation and training, in this order."""
