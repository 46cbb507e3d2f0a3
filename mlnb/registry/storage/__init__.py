"""Where a registry keeps its files: a folder or a bucket, contents by their digest, sealed records."""
