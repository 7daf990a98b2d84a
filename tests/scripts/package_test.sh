#!/bin/sh
# The Debian package: what is in it, whether it installs, keeps an operator's changes, and leaves nothing
# behind. It is installed in a folder (dpkg --root); the host is not changed and nothing is started.
# EGRET_PROXY names a binary to pack; without it one is built. EGRET_EXPOSURE is the most that
# systemd-analyze may find in the unit, in tenths.
set -eu
cd "$(dirname "$0")/../.."

work=$(mktemp -d)
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
trap '$sudo rm -rf "$work"' EXIT
fail() {
    echo "package_test: $*" >&2
    exit 1
}

tests/scripts/setup.sh package
binary=${EGRET_PROXY:-}
if [ -z "$binary" ]; then
    cargo build --release --locked -p egret-proxy
    binary=${CARGO_TARGET_DIR:-target}/release/egret-proxy
fi
package=$(packaging/proxy-deb.sh "$binary" "$work/one" 2>"$work/build.log") || fail "$(cat "$work/build.log")"
again=$(packaging/proxy-deb.sh "$binary" "$work/two" 2>"$work/build.log") || fail "$(cat "$work/build.log")"
cmp "$package" "$again" || fail "two builds of one tree differ"

# What is in it.
dpkg -c "$package" >"$work/listing"
while read -r mode path; do
    grep -q "^$mode root/root .* \.$path\$" "$work/listing" || fail "$path is not in the package, or not $mode root/root"
done <<END
-rwxr-xr-x /usr/bin/egret-proxy
-rw-r----- /etc/egret/proxy.toml
-rw-r--r-- /etc/logrotate.d/egret-proxy
-rw-r--r-- /usr/lib/systemd/system/egret-proxy.service
-rw-r--r-- /usr/lib/systemd/system/egret-proxy.socket
-rw-r--r-- /usr/lib/sysusers.d/egret-proxy.conf
-rw-r--r-- /usr/share/man/man1/egret-proxy.1.gz
-rw-r--r-- /usr/share/bash-completion/completions/egret-proxy
-rw-r--r-- /usr/share/zsh/vendor-completions/_egret-proxy
-rw-r--r-- /usr/share/fish/vendor_completions.d/egret-proxy.fish
-rw-r--r-- /usr/share/doc/egret-proxy/copyright
-rw-r--r-- /usr/share/doc/egret-proxy/changelog.gz
-rw-r--r-- /usr/share/doc/egret-proxy/third-party.txt.gz
-rw-r--r-- /usr/share/doc/egret-proxy/examples/grafana/egret-proxy.json
-rw-r--r-- /usr/share/doc/egret-proxy/examples/prometheus/egret-proxy.rules.yml
END
[ "$(dpkg-deb -f "$package" Version)" = "$("$binary" --version | sed 's/^egret-proxy //; s/-/~/')" ] || fail "version"
dpkg-deb -f "$package" Depends | grep -q '^libc6 (>= ' || fail "no libc6 in Depends"

# The unit stays hardened.
if command -v systemd-analyze >/dev/null; then
    systemd-analyze security --offline=true --threshold="${EGRET_EXPOSURE:-19}" systemd/egret-proxy.service \
        >"$work/exposure" || fail "$(tail -n 1 "$work/exposure")"
    tail -n 1 "$work/exposure"
fi

# Installing.
root=$work/root
mkdir -p "$root/var/lib/dpkg/info" "$root/var/lib/dpkg/updates" "$root/var/lib/dpkg/triggers" "$root/etc"
touch "$root/var/lib/dpkg/status" "$root/var/lib/dpkg/available"
in_root() {
    $sudo dpkg --root="$root" --force-script-chrootless --force-depends --force-confold "$@" >"$work/dpkg.log" 2>&1 ||
        fail "dpkg $*: $(cat "$work/dpkg.log")"
}
in_root -i "$package"
config=$root/etc/egret/proxy.toml
$sudo "$root/usr/bin/egret-proxy" config check --config "$config" || fail "the shipped configuration is not good"
group=$(sed -n 's/^egret:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")
[ -n "$group" ] || fail "there is no group egret"
[ "$(stat -c '%a %u %g' "$root/etc/egret")" = "2750 0 $group" ] || fail "/etc/egret is not root's and egret's"
[ "$($sudo stat -c '%a %u %g' "$config")" = "640 0 $group" ] || fail "proxy.toml is not root's and egret's"
wants=$root/etc/systemd/system/multi-user.target.wants/egret-proxy.service
[ -L "$wants" ] || fail "the service is not enabled"
[ ! -e "$root/etc/systemd/system/sockets.target.wants/egret-proxy.socket" ] || fail "the socket is enabled"
(cd "$root" && md5sum --quiet -c var/lib/dpkg/info/egret-proxy.md5sums) || fail "files differ from md5sums"

# What an operator changes stays: text, mode, and that the service is disabled.
echo '# mine' | $sudo tee -a "$config" >/dev/null
$sudo chmod 600 "$config"
$sudo rm "$wants"
in_root -i "$package"
[ "$($sudo tail -n 1 "$config")" = '# mine' ] || fail "a second installation has changed proxy.toml"
[ "$($sudo stat -c %a "$config")" = 600 ] || fail "a second installation has changed the mode of proxy.toml"
[ ! -e "$wants" ] || fail "a second installation has enabled what was disabled"

# Removing keeps the configuration, purging does not.
in_root -r egret-proxy
[ ! -e "$root/usr/bin/egret-proxy" ] || fail "the program is left after removal"
$sudo test -e "$config" || fail "removal took the configuration"
$sudo touch "$root/etc/egret/proxy-users"
in_root -P egret-proxy
# systemd-sysusers makes the files of users; the user stays.
find "$root" -path "$root/var/lib/dpkg" -prune -o -type f -print >"$work/files"
left=$(grep -vE '/etc/((passwd|group|shadow|gshadow)-?|\.pwd\.lock)$' "$work/files" || true)
[ -z "$left" ] || fail "left after purge: $left"
[ ! -e "$root/etc/egret" ] || fail "/etc/egret is left after purge"
echo "package_test: good: ${package##*/}, $(stat -c %s "$package") bytes"
