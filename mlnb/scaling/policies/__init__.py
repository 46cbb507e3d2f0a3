"""Rules by which replicas follow load: deciders, the same live, in a simulation and on a recorded trace."""
