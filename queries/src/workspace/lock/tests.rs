//! What lock files mean, and that they stay what they are.

use std::{
    path::Path,
    time::{Duration, SystemTime},
};

use expect_test::{Expect, expect};
use rattler_conda_types::{PackageName, PackageRecord, RepoDataRecord, Version, package::DistArchiveIdentifier};

use super::*;
use crate::workspace::{EnvironmentDescription, ManifestOptions, Workspace};

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

#[track_caller]
fn workspace(text: &str) -> Workspace {
    let options = ManifestOptions { channel_alias: Some("https://conda.example".parse().unwrap()) };
    Workspace::parse(text, Path::new("/work/app/pixi.toml"), &options).unwrap()
}

/// A record of a noarch package in the channel `https://conda.example/main/`.
fn record(name: &str, version: &str, depends: &[&str]) -> RepoDataRecord {
    record_in("https://conda.example/main/", name, version, depends)
}

fn record_in(channel: &str, name: &str, version: &str, depends: &[&str]) -> RepoDataRecord {
    let file = format!("{name}-{version}-h0_0.conda");
    let mut package =
        PackageRecord::new(PackageName::new_unchecked(name), version.parse::<Version>().unwrap(), "h0_0".parse().unwrap());
    package.subdir = "noarch".to_owned();
    package.noarch = rattler_conda_types::NoArchType::generic();
    package.depends = depends.iter().map(|text| (*text).to_owned()).collect();
    package.size = Some(10);
    RepoDataRecord {
        package_record: package,
        identifier: DistArchiveIdentifier::try_from_filename(&file).unwrap(),
        url: format!("{channel}noarch/{file}").parse().unwrap(),
        channel: Some(channel.to_owned()),
    }
}

fn locked(text: &str, workspace: &Workspace) -> LockedFile {
    LockedFile::parse(text, &workspace.lock_file_path(), workspace.root()).unwrap()
}

/// Renders one solve per environment and platform, all with the same records.
fn lock_all(workspace: &Workspace, records: &[RepoDataRecord]) -> String {
    let descriptions: Vec<EnvironmentDescription> = workspace
        .targets()
        .map(|(environment, platform)| workspace.describe(&environment.name, &platform.name).unwrap())
        .collect();
    let solved: Vec<_> = descriptions.iter().map(|description| Solved { description, records }).collect();
    render(workspace, None, &solved).unwrap()
}

const MANIFEST: &str = r#"
[workspace]
channels = ["main"]
platforms = ["linux-64"]

[dependencies]
app = ">=1"
"#;

fn app() -> Vec<RepoDataRecord> {
    vec![
        record("app", "1.0", &["lib >=2,<3", "base", "__glibc >=2.17", "__unix"]),
        record("lib", "2.5", &["base"]),
        record("base", "1", &[]),
    ]
}

#[test]
fn what_is_rendered_reads_back_and_satisfies() {
    let workspace = workspace(MANIFEST);
    let text = lock_all(&workspace, &app());
    expect![[r#"
        version: 7
        platforms:
        - name: linux-64
          virtual-packages:
          - __unix=0=0
          - __linux=4.18
          - __glibc=2.28
          - __archspec=0=x86_64
        environments:
          default:
            channels:
            - url: https://conda.example/main/
            packages:
              linux-64:
              - conda: https://conda.example/main/noarch/app-1.0-h0_0.conda
              - conda: https://conda.example/main/noarch/base-1-h0_0.conda
              - conda: https://conda.example/main/noarch/lib-2.5-h0_0.conda
        packages:
        - conda: https://conda.example/main/noarch/app-1.0-h0_0.conda
          depends:
          - lib >=2,<3
          - base
          - __glibc >=2.17
          - __unix
          size: 10
        - conda: https://conda.example/main/noarch/base-1-h0_0.conda
          size: 10
        - conda: https://conda.example/main/noarch/lib-2.5-h0_0.conda
          depends:
          - base
          size: 10
    "#]].assert_eq(&text);
    let file = locked(&text, &workspace);
    let description = workspace.describe("default", "linux-64").unwrap();
    let mut records = satisfies(&description, &file, NOW).unwrap();
    let mut wanted = app();
    records.sort_by(|a, b| a.url.cmp(&b.url));
    wanted.sort_by(|a, b| a.url.cmp(&b.url));
    assert_eq!(records, wanted);
    let again = render(&workspace, Some(&file), &[]).unwrap();
    assert_eq!(again, text);
    let _ = Duration::ZERO;
    let _: Option<Expect> = None;
}
