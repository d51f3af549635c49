"""Backdoors in a stranger's model: triggers found without knowing them, and a verdict that can be wrong so often only."""
