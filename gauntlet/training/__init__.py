"""Training: a data set and an architecture come in, a fitted model and its history go out."""
