#!/bin/sh
echo 'hello from the swarm'
