#!/usr/bin/env bash
# Makes a workspace of many packages that are built from source: `generate.sh [DIRECTORY [COUNT]]`, by default 1,000 in
# `out` beside this script.
#
# The packages are in ten layers. Package J of a layer is built against the packages J and 7 J + 3 of the layer below;
# every other one against J + 11, too. Each embeds what it is built against, and the environment needs those of the last
# layer, so all are built.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
directory=${1:-$here/out}
count=${2:-1000}
if ! [[ $count =~ ^[1-9][0-9]*0$ ]]; then
    echo "generate.sh: the number of packages has to be a multiple of ten, and it is '$count'" >&2
    exit 2
fi
width=$((count / 10))

case $(uname -s)-$(uname -m) in
    Linux-x86_64) platform=linux-64 ;;
    Linux-*) platform=linux-$(uname -m) ;;
    Darwin-arm64) platform=osx-arm64 ;;
    *) platform=osx-64 ;;
esac

workspace=$(< "$here/workspace.toml.in")$'\n'
package=$(< "$here/package.toml.in")$'\n'

# The name of package $2 of layer $1, into `name`.
name_of() {
    printf -v name 'layer%d-%0*d' "$1" "${#width}" "$2"
}

# What was made for another number goes; an environment, a lock file and a channel stay.
mkdir -p "$directory"
rm -rf "$directory/packages"

data=()
for ((layer = 0; layer < 10; layer++)); do
    for ((j = 0; j < width; j++)); do
        name_of "$layer" "$j"
        data+=("$directory/packages/$name/content/share/$name")
    done
done
printf '%s\0' "${data[@]}" | xargs -0 mkdir -p

for ((layer = 0; layer < 10; layer++)); do
    for ((j = 0; j < width; j++)); do
        needed=()
        if ((layer > 0)); then
            needed=("$j" $(((7 * j + 3) % width)))
            if ((j % 2 == 0)); then needed+=($(((j + 11) % width))); fi
        fi
        lines='' seen=' '
        for other in ${needed[@]+"${needed[@]}"}; do
            if [[ $seen == *" $other "* ]]; then continue; fi
            seen+="$other "
            name_of $((layer - 1)) "$other"
            lines+="$name = { path = \"../$name\" }"$'\n'
        done
        name_of "$layer" "$j"
        manifest=${package//@NAME@/$name}
        printf '%s' "${manifest//@PACKAGES@$'\n'/$lines}" > "$directory/packages/$name/pixi.toml"
        echo "What $name says." > "$directory/packages/$name/content/share/$name/data.txt"
    done
done

wanted=''
for ((j = 0; j < width; j++)); do
    name_of 9 "$j"
    wanted+="$name = { path = \"packages/$name\" }"$'\n'
done
workspace=${workspace//@PLATFORM@/$platform}
printf '%s' "${workspace//@PACKAGES@$'\n'/$wanted}" > "$directory/pixi.toml"

# Without a backend in it, until somebody makes one.
for subdir in noarch "$platform"; do
    if ! [ -e "$directory/channel/$subdir/repodata.json" ]; then
        mkdir -p "$directory/channel/$subdir"
        echo "{\"info\":{\"subdir\":\"$subdir\"},\"packages\":{},\"packages.conda\":{}}" \
            > "$directory/channel/$subdir/repodata.json"
    fi
done

echo "$count packages are in $directory"
