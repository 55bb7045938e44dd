#!/usr/bin/env bash
# Builds the `doge` that is handed out: in profile `dist`, with the functions that a run which finds everything done calls
# laid side by side. Without that they are all over the program, and each costs a page fault of its own.
#
#     cli/handout.sh [PROFILE]
#
# Builds the program, has valgrind tell what such a run calls, and links again with that order. Needs Linux with lld as the
# linker (which Rust brings), valgrind and `nm`. Prints where the program is: in a folder of its own, so that the next build
# of cargo leaves it alone.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=${1:-dist}
command -v valgrind > /dev/null || { echo "cli/handout.sh: needs valgrind" >&2; exit 1; }

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r examples/quickstart "$scratch/workspace"
rm -rf "$scratch/workspace/.pixi" "$scratch/workspace/pixi.lock"

# Prints the path of the program.
build() {
    cargo build --profile "$profile" --bin doge --message-format json-render-diagnostics |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}

install() {
    "$@" install --quiet --json --cache-dir "$scratch/cache" --manifest-path "$scratch/workspace/pixi.toml"
}

unset DOGE_FUNCTION_ORDER
program=$(build)
handout=$(dirname "$program")/handout
order=$handout/doge.order
mkdir -p "$handout"

install "$program" > /dev/null
# Files are trusted by their stamps from two seconds on.
sleep 3
install "$program" > /dev/null
install valgrind --quiet --tool=callgrind --demangle=no --compress-strings=no --callgrind-out-file="$scratch/calls" "$program" |
    grep '"executed":{}' > /dev/null || { echo "cli/handout.sh: the run that is watched did something" >&2; exit 1; }

# `fn` is a function, `cfn` one that it calls; `'2` behind a name says that it is on the stack already. What has no name
# stands there as an address.
sed -nE "/=0x/d; s/^c?fn=([^']*).*/\1/p" "$scratch/calls" | awk '!seen[$0]++' > "$order"

DOGE_FUNCTION_ORDER=$order build > /dev/null

# Not all: a function that equals another may have its name.
first=$(nm -n "$program" | awk '$2 == "t" || $2 == "T" {print $3}' | sed 100q | grep -cxFf "$order") || true
[ "$first" -ge 90 ] || { echo "cli/handout.sh: the linker did not lay the functions in order ($first of 100)" >&2; exit 1; }
cp "$program" "$handout/doge"
echo "$handout/doge"
