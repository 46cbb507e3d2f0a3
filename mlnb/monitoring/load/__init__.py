"""What an endpoint takes: bounded load against one's own, from a process beside the kernel."""
