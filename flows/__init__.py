"""What runs in which order: each flow is a configuration, a Prefect flow that reads as a paragraph, and a main."""
