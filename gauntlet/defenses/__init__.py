"""Defenses, detectors and poisonings, each declared once and listed in DEFENSES, DETECTORS or POISONINGS."""
