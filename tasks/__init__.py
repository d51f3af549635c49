"""Verbs: thin Prefect tasks that open an MLflow run, call `gauntlet`, log, and return the run's id."""
