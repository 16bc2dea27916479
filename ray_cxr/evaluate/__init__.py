"""Stage 9: the test split is opened, counted, scored once; new films are scored."""
