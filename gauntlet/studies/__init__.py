"""Published reports as data, and the rules that judge their conclusions."""
