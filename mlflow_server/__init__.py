"""The tracking server: MLflow over the project's own store, small (SQLite) and large (Postgres, S3).

`python -m mlflow_server` starts it; `python -m mlflow_server.serve` starts it together with Prefect.
"""
