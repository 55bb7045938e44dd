//! What the tools for tests make is what rattler reads.

use std::path::Path;

use doge_queries::testing::{ArchiveKind, ChannelBuilder, PackageBuilder};
use rattler_conda_types::{
    RepoData, Shard, ShardedRepodata, package::IndexJson, package::PackageFile, package::PathsJson,
};

fn channel(root: &Path) -> ChannelBuilder {
    let mut channel = ChannelBuilder::new(root).with_shards(true);
    let alpha = PackageBuilder::new("alpha", "1.0").file("share/alpha", "a").symlink("share/nowhere", "gone");
    channel.add(alpha.depends(["beta >=1", "gamma"])).unwrap();
    let beta = PackageBuilder::new("beta", "1.2").build("h0_3", 3).archive(ArchiveKind::TarBz2).subdir("linux-64");
    channel.add(beta.executable("bin/beta", "#!/bin/sh\n")).unwrap();
    let tool = PackageBuilder::new("tool", "2").noarch_python().entry_point("tool = tool.main:run");
    channel.add(tool.file("site-packages/tool/main.py", "def run(): pass\n")).unwrap();
    channel.index().unwrap();
    channel
}

fn files(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
                files.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    files.sort();
    files
}

#[test]
fn the_same_calls_make_the_same_bytes() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    channel(one.path());
    channel(two.path());
    assert_eq!(files(one.path()), files(two.path()));
}

#[test]
fn rattler_reads_indexes_and_archives() {
    let dir = tempfile::tempdir().unwrap();
    channel(dir.path());
    let repodata = RepoData::from_path(dir.path().join("noarch/repodata.json")).unwrap();
    assert_eq!(repodata.conda_packages.len(), 2);
    let zst = std::fs::read(dir.path().join("linux-64/repodata.json.zst")).unwrap();
    let repodata: RepoData = serde_json::from_slice(&zstd::decode_all(zst.as_slice()).unwrap()).unwrap();
    let (identifier, record) = repodata.packages.first().unwrap();
    assert_eq!((identifier.to_string().as_str(), record.build_number), ("beta-1.2-h0_3.tar.bz2", 3));

    let index = std::fs::read(dir.path().join("noarch/repodata_shards.msgpack.zst")).unwrap();
    let index: ShardedRepodata = rmp_serde::from_slice(&zstd::decode_all(index.as_slice()).unwrap()).unwrap();
    let hash = hex::encode(index.shards.get("alpha").unwrap());
    let shard = std::fs::read(dir.path().join(format!("noarch/shards/{hash}.msgpack.zst"))).unwrap();
    assert_eq!(hex::encode(rattler_digest::compute_bytes_digest::<rattler_digest::Sha256>(&shard)), hash);
    let shard: Shard = rmp_serde::from_slice(&zstd::decode_all(shard.as_slice()).unwrap()).unwrap();
    let record = shard.conda_packages.values().next().unwrap();
    assert_eq!(record.depends, ["beta >=1", "gamma"]);

    for (archive, files) in [("noarch/alpha-1.0-0.conda", 2), ("linux-64/beta-1.2-h0_3.tar.bz2", 1)] {
        let target = dir.path().join("extracted").join(archive);
        let result = rattler_package_streaming::fs::extract(&dir.path().join(archive), &target).unwrap();
        let paths = PathsJson::from_package_directory(&target).unwrap();
        assert_eq!(paths.paths.len(), files);
        let index = IndexJson::from_package_directory(&target).unwrap();
        if index.name.as_normalized() == "alpha" {
            assert_eq!(Some(result.sha256), record.sha256);
        }
    }
}
