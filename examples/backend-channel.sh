#!/usr/bin/env bash
# Makes a channel that has the build backend of the tests, so that examples can have it installed and isolated, as
# backends are that people use: `backend-channel.sh DIRECTORY [PROFILE]`. The profile is one of cargo's, by default
# `release`.
set -euo pipefail

mkdir -p "${1:?the directory of the channel is missing}"
channel=$(cd "$1" && pwd)
profile=${2:-release}
cd "$(dirname "${BASH_SOURCE[0]}")/.."

cargo build --quiet --profile "$profile" --bin doge-test-backend
target=$(cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
case $profile in dev | test) directory=debug ;; bench) directory=release ;; *) directory=$profile ;; esac

cargo run --quiet --profile "$profile" --features doge-queries/testing --example backend_channel -- \
    "$channel" "$target/$directory/doge-test-backend"
