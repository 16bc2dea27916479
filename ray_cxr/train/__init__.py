"""Stage 8: fine-tuning, by Ray Train's TorchTrainer or in this process, with checkpoints that are whole or not."""
