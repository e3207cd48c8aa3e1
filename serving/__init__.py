"""What is offered: the BentoML service, its schemas and middleware."""
