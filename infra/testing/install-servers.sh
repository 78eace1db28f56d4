#!/usr/bin/env bash
# Installs the servers that the tests start for themselves: RabbitMQ, PostgreSQL and Ceph's S3 gateway (Debian, Ubuntu);
# and strace, with which they record what a power loss is replayed from.
# Does nothing where they are present. None of them is left running: the tests use private ones on free ports.
#
# Exits 0 without them on another system or without root, because the tests then skip what needs them; with CI=true
# that is a failure, here as in the tests.
set -euo pipefail

packages=(rabbitmq-server postgresql radosgw ceph-mon ceph-osd ceph-common strace)
programs=(rabbitmq-server epmd erl_call radosgw radosgw-admin ceph-mon ceph-osd ceph monmaptool strace)

missing() {
    local program
    for program in "${programs[@]}"; do
        PATH="$PATH:/usr/sbin" command -v "$program" > /dev/null || echo "$program"
    done
    compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null || command -v initdb > /dev/null || echo initdb
}

give_up() {
    echo "install-servers: $1 Missing: $(missing | xargs)." >&2
    echo "install-servers: the tests that need RabbitMQ, PostgreSQL, S3 or strace are skipped." >&2
    [ "${CI:-}" = true ] && exit 1
    exit 0
}

[ -z "$(missing)" ] && exit 0
command -v apt-get > /dev/null || give_up "this is not Debian or Ubuntu; install ${packages[*]} by hand."
[ "$(id -u)" = 0 ] || give_up "not root; run: sudo $0."

# Debian starts a service when its package is installed, and makes a first PostgreSQL cluster; both are unwanted here.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
fi
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
    mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' > /etc/postgresql-common/createcluster.conf
fi

export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends -o Dpkg::Options::=--force-confold "${packages[@]}" > /dev/null

if [ -n "$(missing)" ]; then
    echo "install-servers: installed, but still missing: $(missing | xargs)." >&2
    exit 1
fi
