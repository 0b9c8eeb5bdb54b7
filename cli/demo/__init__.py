"""A small real swarm on this machine, to look at."""
