"""Replicas under a load that never was: a discrete-event simulation."""
