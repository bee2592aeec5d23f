#!/usr/bin/env bash
# Stands in for the worker in tests/command_line.rs: it speaks the worker's command line, and each of its scenarios
# misbehaves in one way. Seeds decide nothing but where a name says so.
set -euo pipefail

if [ "$1" = scenarios ]; then
  if [ "${2:-}" != --json ]; then
    echo "cutover/swarm  a fake that passes"
    exit 0
  fi
  echo '[{"id":"cutover/swarm","promise":"passes","marks":["a mark"],"gate_overridden":false,"aliases":["swarm"]},'
  echo '{"id":"fake/odd"},{"id":"fake/killed"},{"id":"fake/once"},{"id":"fake/panics"},{"id":"fake/hangs"},{"id":"fake/fickle"},'
  echo '{"id":"fake/silent"},{"id":"fake/internal"},{"id":"fake/unreached","marks":["never"]},'
  echo '{"id":"twin/eager","gate_overridden":true},{"id":"canary"}]'
  exit 0
elif [ "$1" = set-help ]; then
  echo "replication=1|3"
  exit 0
fi

shift
json=no scenario='' seed='' events='' out='' mutant=''
while [ $# -gt 0 ]; do
  case $1 in
    --json) json=yes; shift; continue ;;
    --scenario) scenario=$2 ;;
    --seed) seed=$2 ;;
    --events) events=$2 ;;
    --out) out=$2 ;;
    --mutant) mutant=$2 ;;
    --set)
      case $2 in
        replication=*) ;;
        *) echo "--set: there is no key \`${2%%=*}\`; allowed: replication=1|3" >&2; exit 2 ;;
      esac ;;
  esac
  shift 2
done

verdict=pass hash="9f$seed" fingerprint=null
case $scenario in
  cutover/swarm | swarm | fake/unreached | twin/eager) ;;
  fake/odd) [ $((seed % 2)) = 0 ] || verdict=${FAKE_ODD:-violation} ;;
  fake/killed) echo 'last words' >&2; kill -9 $$ ;;
  fake/once) [ -e "$FAKE_ONCE" ] || { : > "$FAKE_ONCE"; kill -9 $$; } ;;
  fake/panics) echo "thread 'main' panicked" >&2; exit 101 ;;
  fake/hangs) exec sleep 60 ;;
  fake/fickle) hash=$$ ;;
  fake/silent) exit 0 ;;
  fake/internal) echo 'built without the cfg of the simulator' >&2; exit 70 ;;
  canary) verdict=${FAKE_CANARY:-violation} ;;
  *) echo "error: there is no scenario \`$scenario\`; did you mean \`cutover/swarm\`?" >&2; exit 2 ;;
esac
[ -z "$mutant" ] || verdict=violation
[ $verdict = pass ] || fingerprint='"planted"'

[ -z "$out" ] || echo "seed = $seed" > "$out/repro.toml"
[ -z "$events" ] || printf 'boot\nwrite\n%s\nend\n' "$hash" > "$events"
if [ $json = yes ]; then
  printf '{"v":1,"scenario":"%s","seed":%s,"verdict":"%s","fingerprint":%s,"trace_hash":"%s","plan_hash":"","build":"fake",' \
    "$scenario" "$seed" $verdict "$fingerprint" "$hash"
  printf '"acked":99,"rejected":0,"unknown":1,"refusals":[],"loss_ppm":0,"unavailable_ns":{"writes":0,"reads":0},'
  printf '"windows":{"transient":0,"superseded":0,"permanent":0,"total_ns":0,"max_ns":0},"faults":{},'
  echo '"migrations":{"done":1,"aborted":0,"refused":0},"marks":{"a mark":2},"simulated_ns":1000,"wall_ms":1}'
else
  echo "report of $scenario, verdict $verdict"
fi
[ $verdict = pass ] || exit 100
