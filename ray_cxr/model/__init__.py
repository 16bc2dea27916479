"""Stage 6: any timm backbone with one output per finding; its weights, freezing, normalisation and file."""
