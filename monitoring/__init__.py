"""What is watched: the one log, Prometheus metrics, drift tests, and the configuration of the watchers."""
