"""Stage 9: the search for the best recipe, by Ray Tune and Optuna, over any setting of a job."""
