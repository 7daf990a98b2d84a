#!/bin/sh
# The demo: sink, proxy and MTA with the files in config/, a thousand messages, and the count.
# STAY=1 leaves all running until Ctrl-C.
set -eu
cd "$(dirname "$0")/../.."
cargo build --release --bins
bin="${CARGO_TARGET_DIR:-target}/release"
dir=target/demo
rm -rf "$dir"
mkdir -p "$dir"
pids=
stop() {
    trap - EXIT INT TERM
    for pid in $pids; do kill "$pid" 2>/dev/null || true; done
    wait
}
trap stop EXIT
trap 'exit 130' INT TERM

# start NAME ADDRESS PORT COMMAND...: starts in the background, waits until the port answers.
start() {
    name=$1 host=$2 port=$3
    shift 3
    "$@" >"$dir/$name.log" 2>&1 &
    pid=$!
    pids="$pid $pids"
    tries=0
    until bash -c ": </dev/tcp/$host/$port" 2>/dev/null; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ] || ! kill -0 "$pid" 2>/dev/null; then
            echo "$name did not start:" >&2
            cat "$dir/$name.log" >&2
            exit 1
        fi
        sleep 0.1
    done
}

stats=http://127.0.0.1:2580/stats
start sink 127.0.0.1 2526 "$bin/egret-load" sink --listen 127.0.0.1:2526 --admin 127.0.0.1:2580 --ledger "$dir/seen"
start proxy 127.0.0.1 1080 "$bin/egret-proxy" serve --config config/proxy.toml
start mta 127.0.0.1 2525 "$bin/egret-mta" serve --config config/mta.toml
"$bin/egret-load" source --to 127.0.0.1:2525 --count 1000 --domains 200 --ledger "$dir/offered" --progress

# Until everything acknowledged was seen, or for a minute.
tries=0
until "$bin/egret-load" compare --offered "$dir/offered" --seen "$dir/seen" >/dev/null 2>&1; do
    tries=$((tries + 1))
    [ "$tries" -gt 300 ] && break
    sleep 0.2
done
code=0
"$bin/egret-load" compare --offered "$dir/offered" --seen "$dir/seen" || code=$?
echo "deliveries by source address:"
curl -fsS "$stats" | grep -o '"by_source":{[^}]*}' | tr '{,' '\n\n' | grep -o '"[0-9a-f.:]*":[0-9]*' | tr -d '"' | sed 's/:\([0-9]*\)$/  \1/; s/^/  /'
echo "event log: $dir/events.ndjson"
echo "metrics:   http://127.0.0.1:9181/metrics while it runs (STAY=1)"
if [ "${STAY:-}" = 1 ]; then
    echo "running; try:"
    echo "  swaks --server 127.0.0.1:2525 --from you@example.com --to someone@example.net"
    echo "  curl -s $stats; curl -s http://127.0.0.1:2580/messages"
    echo "Ctrl-C ends."
    wait
fi
exit "$code"
