"""pytest looks for doctests everywhere; what runs in another environment cannot be imported here."""

collect_ignore_glob = ["peers/*"]
