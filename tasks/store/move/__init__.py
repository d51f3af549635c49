"""Move a store to another: experiments, runs, models and artifacts with their own ids, verified by digest.

MLflow's own export would give every run a new id. Cards, the audit log and stages refer to ids, and a signed card
cannot be rewritten: so the rows of the database are copied unchanged, and only the paths of artifacts are
changed. Nothing is removed from the source.

rows.py       the database's rows; one transaction, so that an interrupted move leaves no incomplete run
artifacts.py  files, each read back from its new place
moving.py     both, in an order that lets an interrupted move continue
"""
