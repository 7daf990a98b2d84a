#!/bin/sh
# Installs the Debian packages that build, demo, tests and benchmarks need, if they are missing; starts no service.
# With the argument "package" or "monitoring", only what `make package` or monitoring_test.sh need.
set -eu
missing=
# What must be there (a command, or a file), and the package that brings it.
wanted="cc:gcc redis-server:redis-server haproxy:haproxy swaks:swaks curl:curl ip:iproute2"
wanted="$wanted strace:strace faketime:faketime"
wanted="$wanted nc.openbsd:netcat-openbsd /usr/lib/python3/dist-packages/socks.py:python3-socks"
wanted="$wanted /usr/lib/python3/dist-packages/python_socks:python3-python-socks"
wanted="$wanted node:nodejs /usr/share/nodejs/socks:node-socks danted:dante-server microsocks:microsocks"
python=/usr/lib/python3/dist-packages
wanted="$wanted $python/dkim:python3-dkim $python/nacl:python3-nacl $python/aiosmtpd:python3-aiosmtpd"
wanted="$wanted postfix:postfix nft:nftables"
# swaks speaks TLS with it, and only recommends it.
wanted="$wanted /usr/share/doc/libnet-ssleay-perl/copyright:libnet-ssleay-perl"
[ "${1:-}" != package ] || wanted="cc:gcc strip:binutils dpkg-shlibdeps:dpkg-dev"
[ "${1:-}" != monitoring ] || wanted="jq:jq"
for pair in $wanted; do
    what=${pair%%:*}
    [ -e "$what" ] || PATH="$PATH:/usr/sbin:/sbin" command -v "$what" >/dev/null || missing="$missing ${pair#*:}"
done
[ -z "$missing" ] && exit 0
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
# No start by the packages' scripts: 101 is "forbidden by policy". An existing policy stays.
policy=/usr/sbin/policy-rc.d
made=
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | $sudo tee "$policy" >/dev/null
    $sudo chmod 755 "$policy"
    made=yes
fi
trap '[ -z "$made" ] || $sudo rm -f "$policy"' EXIT
$sudo apt-get update -q
# shellcheck disable=SC2086
$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $missing
