"""The store: the only room that talks to MLflow. Run ids and model URIs come in, records and models go out."""
