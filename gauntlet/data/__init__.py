"""Data sets and file formats: files come in, float32 images (n, h, w, c) in [0, 1] and integer labels go out."""
