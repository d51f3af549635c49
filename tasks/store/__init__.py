"""The store: the only package that talks to MLflow. Run ids and model URIs come in, records and models go out.

connection.py  the store of this process; patience.py waits for one that does not answer
origin.py      where a run comes from: process, commit, versions of what the numbers depend on
tracking.py    runs: written while they are open, read later
versions.py    registered versions: tags, digests, aliases; registry.py keeps and loads the models themselves
guest.py       runs that others opened; evaluator.py is what `mlflow.models.evaluate` calls
audit.py       every run's entries in the audit log; leaks.py looks for secrets in what was logged
"""
