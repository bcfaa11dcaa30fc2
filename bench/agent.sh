#!/bin/sh
# What mpirun starts instead of ssh: a command in the network namespace that stands for a host, under the host's name.
while [ "${1#-}" != "$1" ]; do shift; done
host=$1
shift
exec ip netns exec "$host" unshare --uts sh -c 'hostname "$1"; shift; exec sh -c "$*"' sh "$host" "$@"
