"""Stage 1: any source (settings `source`) becomes one label table, a row per film."""
