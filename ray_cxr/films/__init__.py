"""Stage 2: each film is decoded, checked, hashed and resized once into the film store."""
