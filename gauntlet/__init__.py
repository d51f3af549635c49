"""Gauntlet: measure how robust an image classifier is, and whether the number can be believed.

This package is pure computation on NumPy, Keras and ART. It never imports Prefect or MLflow.
"""
