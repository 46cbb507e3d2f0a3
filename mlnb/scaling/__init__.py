"""A model on replicas."""
