#!/usr/bin/env bash
# Makes what cannot lie in version control: a git repository, an archive, the channel with the build backend, and the
# manifest, which has the URLs of the first two. Run it again after a change in `elsewhere`; the same files give the
# same commit and the same archive.
#
# `setup.sh [PROFILE]`: the profile is one of cargo's, by default `release`.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")"
here=$(pwd)
profile=${1:-release}

# Nothing of whoever runs this gets into the commits.
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_NAME=doge GIT_AUTHOR_EMAIL=doge@example.org GIT_AUTHOR_DATE='2024-01-02T00:00:01Z'
export GIT_COMMITTER_NAME=doge GIT_COMMITTER_EMAIL=doge@example.org GIT_COMMITTER_DATE='2024-01-02T00:00:01Z'
unset GIT_DIR GIT_INDEX_FILE GIT_WORK_TREE GIT_OBJECT_DIRECTORY

# A bare repository, `$1`, whose branch `main` is one commit of the directory `$2`.
repository() {
    rm -rf "$1"
    git init --quiet --bare --initial-branch main "$1"
    git -C "$2" --git-dir "$1" --work-tree . add --all
    git -C "$2" --git-dir "$1" --work-tree . commit --quiet --message 'As it is'
}

mkdir -p made
repository "$here/made/words.git" "$here/elsewhere/words"
repository "$here/made/letters.git" "$here/elsewhere/letters"
git --git-dir made/letters.git archive --prefix letters-1.0/ --output "$here/made/letters-1.0.tar.gz" main
rm -rf made/letters.git

url=file://${here//%/%25}
sed "s|@HERE@|${url// /%20}|" pixi.toml.in > pixi.toml

../backend-channel.sh channel "$profile"

echo 'Everything is made. Now, in the directory of the repository:'
echo "    cargo run --profile $profile --bin doge -- install --manifest-path examples/workspace/pixi.toml"
