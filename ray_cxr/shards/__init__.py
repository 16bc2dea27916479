"""Stage 4: encoded films are copied, never decoded again, into one folder of Parquet shards per split."""
