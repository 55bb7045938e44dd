#!/bin/sh
# Makes the packages of the quickstart again. The result is the same, byte for byte.
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
cd "$here/../.."
rm -rf "$here/channel"
cargo run --quiet --features doge-queries/testing --example quickstart_channel -- "$here/channel"
