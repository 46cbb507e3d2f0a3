"""Out of the notebook: an image, a Compose file, Kubernetes manifests; they are applied, watched and rolled back."""
