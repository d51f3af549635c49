"""Checks that need no machine learning: scans of code and files, the threat model, the audit log."""
