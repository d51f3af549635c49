"""Move a store to another: experiments, runs, models and artifacts with their own ids, verified by digest.

MLflow's own export would give every run a new id. Ids are what cards, the audit log and stages name, and a signed card
cannot be rewritten: so the rows of the database are copied as they are, and only what says where artifacts lie is
changed. Nothing is removed from where it comes.

rows.py       what the database holds; one transaction, so that an interrupted move leaves no half of a run
artifacts.py  files, each read back from where it was put
moving.py     both, in the order that makes an interrupted move go on
"""
