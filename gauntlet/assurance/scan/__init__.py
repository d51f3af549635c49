"""Scanners of code, model files and locked packages: paths come in, findings go out."""
