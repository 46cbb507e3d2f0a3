"""Whether a stored model still is what it was: golden rows, versions of packages, a child without the notebook."""
