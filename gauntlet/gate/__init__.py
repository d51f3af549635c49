"""The gate: measurements of a champion and a candidate come in; a verdict, a signed card and a trend go out."""
