"""How the deployments of other processes are found: records in Jupyter's runtime folder, and a socket to ask at."""
