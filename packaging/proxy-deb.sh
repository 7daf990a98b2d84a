#!/bin/sh
# Makes egret-proxy_VERSION_ARCH.deb of a release binary, with Debian's own tools alone.
#   packaging/proxy-deb.sh BINARY FOLDER
# Version, manual pages and completion come from the binary, so that they are those of what is installed.
# The same tree and binary give the same bytes: every time stamp is that of the last commit.
# DEBFULLNAME and DEBEMAIL name the maintainer, as for other Debian tools.
set -eu
umask 022

[ $# = 2 ] || { echo "usage: packaging/proxy-deb.sh BINARY FOLDER" >&2; exit 64; }
binary=$(realpath "$1")
mkdir -p "$2"
out=$(realpath "$2")
cd "$(dirname "$0")/.."

version=$("$binary" --version)
# Debian sorts 0.2.0~rc.1 before 0.2.0.
version=$(printf '%s' "${version#egret-proxy }" | sed 's/-/~/')
arch=$(dpkg --print-architecture)
maintainer="${DEBFULLNAME:-The Egret developers} <${DEBEMAIL:-egret@localhost.localdomain}>"
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}
export SOURCE_DATE_EPOCH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree="$work/tree"
doc="$tree/usr/share/doc/egret-proxy"

# put MODE FILE PLACE: a file into the package.
put() { install -D -m "$1" "$2" "$tree$3"; }

# The texts of the libraries that are linked into the binary: their licences ask for it. Debian has the
# Apache licence on every host.
third_party() {
    sources="${CARGO_HOME:-$HOME/.cargo}/registry/src"
    cargo tree --locked -p egret-proxy -e normal,no-proc-macro --prefix none --format '{p}|{l}' |
        sed 's/ (\*)$//' | grep -v '(/' | sort -u >"$work/crates"
    echo "Libraries in egret-proxy. Apache-2.0 is /usr/share/common-licenses/Apache-2.0."
    while IFS='|' read -r package licence; do
        name=${package%% v*}
        version_of=${package#* v}
        printf '\n======== %s %s: %s\n' "$name" "${version_of%% *}" "$licence"
        find "$sources" -mindepth 3 -maxdepth 3 -type f -path "*/$name-${version_of%% *}/*" \
            \( -iname 'licen[cs]e*' -o -iname 'copying*' -o -iname 'notice*' -o -iname 'copyright*' \) \
            ! -iname '*apache*' -print | sort | while read -r file; do
            printf '%s\n\n' "-------- ${file##*/}"
            cat "$file"
        done
    done <"$work/crates"
}

install -d "$tree/usr/bin" "$doc"
strip --strip-unneeded --remove-section=.comment --remove-section=.note -o "$tree/usr/bin/egret-proxy" "$binary"
chmod 755 "$tree/usr/bin/egret-proxy"

put 640 packaging/proxy.toml /etc/egret/proxy.toml
put 644 packaging/proxy/logrotate /etc/logrotate.d/egret-proxy
put 644 systemd/egret-proxy.service /usr/lib/systemd/system/egret-proxy.service
put 644 systemd/egret-proxy.socket /usr/lib/systemd/system/egret-proxy.socket
put 644 systemd/egret.sysusers /usr/lib/sysusers.d/egret-proxy.conf

install -d "$tree/usr/share/man/man1"
"$binary" man "$tree/usr/share/man/man1"
gzip -9n "$tree"/usr/share/man/man1/*.1
chmod 644 "$tree"/usr/share/man/man1/*
for shell in bash zsh fish; do "$binary" completion "$shell" >"$work/$shell"; done
put 644 "$work/bash" /usr/share/bash-completion/completions/egret-proxy
put 644 "$work/zsh" /usr/share/zsh/vendor-completions/_egret-proxy
put 644 "$work/fish" /usr/share/fish/vendor_completions.d/egret-proxy.fish

for page in docs/reference/proxy-*.md docs/reference/faults.md; do
    put 644 "$page" "/usr/share/doc/egret-proxy/reference/${page##*/}"
done
put 644 docs/guide/proxy-install.md /usr/share/doc/egret-proxy/guide/proxy-install.md
put 644 config/grafana/egret-proxy.json /usr/share/doc/egret-proxy/examples/grafana/egret-proxy.json
put 644 config/prometheus/egret-proxy.rules.yml /usr/share/doc/egret-proxy/examples/prometheus/egret-proxy.rules.yml

{
    cat <<END
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/
Upstream-Name: Egret

Files: *
Copyright: $(sed -n 's/^Copyright (c) //p' LICENSE-MIT)
License: MIT or Apache-2.0
Comment: The licences of the libraries in the program are in third-party.txt.gz beside this file.

License: MIT
END
    sed -n '/^Permission/,$p' LICENSE-MIT | sed 's/^$/./; s/^/ /'
    cat <<END

License: Apache-2.0
 On Debian systems the text is in /usr/share/common-licenses/Apache-2.0.
END
} >"$doc/copyright"
third_party >"$doc/third-party.txt"
cp docs/CHANGELOG.md "$doc/NEWS.md"
cat >"$doc/changelog" <<END
egret-proxy ($version) stable; urgency=medium

  * What users notice is told in NEWS.md.gz beside this file.

 -- $maintainer  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")
END
gzip -9n "$doc/third-party.txt" "$doc/NEWS.md" "$doc/changelog"
chmod 644 "$doc"/*.gz "$doc/copyright"

# dpkg-shlibdeps reads which libraries, and which of their versions, the binary asks for. It wants to
# stand in a source package.
mkdir -p "$work/source/debian"
printf 'Source: egret\n\nPackage: egret-proxy\nArchitecture: any\n' >"$work/source/debian/control"
depends=$(cd "$work/source" && dpkg-shlibdeps -O -e"$tree/usr/bin/egret-proxy" | sed -n 's/^shlibs:Depends=//p')
[ -n "$depends" ] || { echo "dpkg-shlibdeps has found no libraries" >&2; exit 1; }

install -d "$tree/DEBIAN"
(cd "$tree" && find etc -type f | sort | sed 's,^,/,') >"$tree/DEBIAN/conffiles"
(cd "$tree" && find usr -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
for script in postinst prerm postrm; do install -m 755 "packaging/proxy/$script" "$tree/DEBIAN/$script"; done
cat >"$tree/DEBIAN/control" <<END
Package: egret-proxy
Version: $version
Architecture: $arch
Maintainer: $maintainer
Installed-Size: $(du -k --apparent-size -s "$tree/usr" | cut -f1)
Depends: $depends, init-system-helpers (>= 1.54), systemd | systemd-standalone-sysusers
Suggests: logrotate, prometheus
Section: mail
Priority: optional
Description: dials mail servers from many source addresses
 Runs on a host that has many IP addresses, and dials from the one that its
 client asks for, over SOCKS5 or the HAProxy PROXY protocol. When a connection
 fails it tells why, and whether the source, the proxy or the destination is
 at fault. It needs no privilege.
END
chmod 644 "$tree/DEBIAN/control" "$tree/DEBIAN/conffiles" "$tree/DEBIAN/md5sums"

package="$out/egret-proxy_${version}_$arch.deb"
dpkg-deb --build --root-owner-group "$tree" "$package" >/dev/null
echo "$package"
