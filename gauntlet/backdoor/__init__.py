"""Backdoors in a stranger's model: triggers found without knowing them, and a verdict with a p-value."""
