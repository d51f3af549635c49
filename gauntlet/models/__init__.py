"""Models: architectures, files that people bring, and the classifiers that attacks see (white-box and black-box)."""
