#!/bin/sh
# The dashboard and the alerts: valid, and in step with docs/reference/proxy-metrics.md in both directions; the MTA's
# alerts with docs/reference/mta-metrics.md.
# promtool (Debian: prometheus) checks rules and expressions, and runs the rules' own tests, if it is there.
set -eu
cd "$(dirname "$0")/../.."
export LC_ALL=C
fail() {
    echo "monitoring_test: $*" >&2
    exit 1
}

page=docs/reference/proxy-metrics.md
rules=config/prometheus/egret-proxy.rules.yml
mta_page=docs/reference/mta-metrics.md
mta_rules=config/prometheus/egret-mta.rules.yml
dashboard=config/grafana/egret-proxy.json
tests/scripts/setup.sh monitoring
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

jq -e '.panels | length > 0' "$dashboard" >/dev/null || fail "$dashboard is not a dashboard"
jq -e '[.panels[].id] | length == (unique | length)' "$dashboard" >/dev/null || fail "two panels have one id"
jq -e '[.panels[] | select(.type != "row") | .datasource.uid, .targets[].datasource.uid] | unique == ["${datasource}"]' \
    "$dashboard" >/dev/null || fail "a panel does not ask the data source that was chosen"
jq -r '.panels[].targets[]?.expr, .templating.list[].definition // empty' "$dashboard" >"$work/asked"

names() { grep -oh 'egret_proxy_[a-z_]*' "$@" | sed -E 's/_(bucket|sum|count)$//' | sort -u; }
sed -n 's/^| `\(egret_proxy_[a-z_]*\)`.*/\1/p' "$page" | sort -u >"$work/documented"
names "$work/asked" >"$work/shown"
names "$work/asked" "$rules" >"$work/used"
unknown=$(comm -13 "$work/documented" "$work/used" | tr '\n' ' ')
[ -z "$unknown" ] || fail "not in $page:" "$unknown"
missing=$(comm -23 "$work/documented" "$work/shown" | tr '\n' ' ')
[ -z "$missing" ] || fail "in $page, but in no panel:" "$missing"

grep -oh 'egret_mta_[a-z_]*' "$mta_rules" | sed -E 's/_(bucket|sum|count)$//' | sort -u >"$work/mta_used"
sed -n 's/^| `\(egret_mta_[a-z_]*\)`.*/\1/p' "$mta_page" | sort -u >"$work/mta_documented"
unknown=$(comm -13 "$work/mta_documented" "$work/mta_used" | tr '\n' ' ')
[ -z "$unknown" ] || fail "not in $mta_page:" "$unknown"

# So do labels that say why, in the row of their metric.
grep -ohE 'egret_[a-z_]*\{why="[a-z_]*"' "$rules" "$mta_rules" | sed 's/{why=/ /; s/"//g' | sort -u >"$work/whys"
while read -r metric why; do
    grep -hF "| \`$metric\` |" "$page" "$mta_page" | grep -qF "\`$why\`" || fail "$metric has no why=\"$why\""
done <"$work/whys"

# Reasons that an alert or a panel names exist.
grep -ohE '(reason|result)!?[=~]+"[a-z_|]*"' "$work/asked" "$rules" | sed 's/.*"\(.*\)"/\1/' | tr '|' '\n' |
    grep -vxE 'ok|failed' | sort -u >"$work/reasons"
while read -r reason; do
    grep -q "| \`$reason\` |" docs/reference/faults.md || fail "$reason is no reason of docs/reference/faults.md"
done <"$work/reasons"

# An alert tells what it is and what to do.
for file in "$rules" "$mta_rules"; do
    alerts=$(grep -c -- '- alert:' "$file")
    for word in summary action; do
        [ "$(grep -c "^ *$word: " "$file")" = "$alerts" ] || fail "an alert of $file has no $word"
    done
done
alerts=$(cat "$rules" "$mta_rules" | grep -c -- '- alert:')

if command -v promtool >/dev/null; then
    promtool check rules "$rules" "$mta_rules" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    for tests in egret-proxy.test.yml egret-mta.test.yml; do
        (cd config/prometheus && promtool test rules "$tests") >"$work/log" 2>&1 || fail "$(cat "$work/log")"
    done
    # Each expression of the dashboard, as a rule.
    jq '{groups: [{name: "panels", rules: [.panels[].targets[]?.expr
        | gsub("\\$__rate_interval"; "5m") | gsub("\\$__range"; "1h") | {record: "panel:expression", expr: .}]
        | to_entries | map(.value + {record: "panel:expression\(.key)"})}]}' "$dashboard" >"$work/panels.yml"
    promtool check rules "$work/panels.yml" >"$work/log" 2>&1 || fail "$(cat "$work/log")"
else
    echo "monitoring_test: promtool is not installed: expressions are not checked"
fi
echo "monitoring_test: good: $alerts alerts, $(jq '[.panels[] | select(.type != "row")] | length' "$dashboard") panels"
