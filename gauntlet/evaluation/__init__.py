"""Evaluation: a model and images come in, clean accuracy and the outcome of every attack per image go out."""
