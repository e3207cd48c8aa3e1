"""What changes the world: registry, gate, promotion log, package, model card, the MLflow model file."""
