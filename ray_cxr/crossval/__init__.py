"""Cross-validation: a run for each fold of a data set, and what each says of the films that it never saw."""
