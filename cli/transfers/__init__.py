"""What ``swarm share`` and ``swarm fetch`` do on an open node: any number of transfers, one line for each."""
