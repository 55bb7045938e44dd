//! What lock files mean, and that they stay what they are.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime},
};

use expect_test::{Expect, expect};
use proptest::prelude::*;
use rattler_conda_types::{PackageName, PackageRecord, RepoDataRecord, Version, package::DistArchiveIdentifier};

use super::*;
use crate::records::Records;
use crate::source::LockedPackages;
use crate::workspace::{EnvironmentDescription, ManifestOptions, Workspace};

mod sources;

const NOW: SystemTime = SystemTime::UNIX_EPOCH;

#[track_caller]
fn workspace(text: &str) -> Workspace {
    let options = ManifestOptions { channel_alias: Some("https://conda.example".parse().unwrap()) };
    Workspace::parse(text, Path::new("/projects/app/pixi.toml"), &options).unwrap()
}

/// A record of a noarch package in the channel `https://conda.example/main/`.
fn record(name: &str, version: &str, depends: &[&str]) -> RepoDataRecord {
    record_in("https://conda.example/main/", name, version, depends)
}

fn record_in(channel: &str, name: &str, version: &str, depends: &[&str]) -> RepoDataRecord {
    let file = format!("{name}-{version}-h0_0.conda");
    let mut package = PackageRecord::new(
        PackageName::new_unchecked(name),
        version.parse::<Version>().unwrap(),
        "h0_0".parse().unwrap(),
    );
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

/// The locked records of an environment that needs nothing from source.
fn satisfies(
    description: &EnvironmentDescription,
    locked: &LockedFile,
    now: SystemTime,
) -> Result<Vec<RepoDataRecord>, Unsatisfied> {
    super::satisfies(description, locked, &Records::default(), now).map(|records| records.as_slice().to_vec())
}

fn satisfies_together(
    descriptions: &[EnvironmentDescription],
    locked: &LockedFile,
    now: SystemTime,
) -> Result<Vec<Records>, Unsatisfied> {
    super::satisfies_together(descriptions, locked, &Records::default(), now)
}

/// From what was solved, what an environment reaches.
fn reachable(
    solved: &[RepoDataRecord],
    description: &EnvironmentDescription,
    workspace: &Workspace,
) -> Vec<RepoDataRecord> {
    let solved = Records::new(solved.to_vec());
    crate::workspace::reachable(&solved, &description.needs, workspace.root()).as_slice().to_vec()
}

/// Packages none of which is built from source.
fn archives(records: &[RepoDataRecord]) -> LockedPackages {
    LockedPackages { binary: records.to_vec(), source: Vec::new() }
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
    let packages = archives(records);
    let solved: Vec<_> = descriptions.iter().map(|description| Solved { description, packages: &packages }).collect();
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
    "#]]
    .assert_eq(&text);
    let file = locked(&text, &workspace);
    let description = workspace.describe("default", "linux-64").unwrap();
    let mut records = satisfies(&description, &file, NOW).unwrap();
    let mut wanted = app();
    records.sort_by(|a, b| a.url.cmp(&b.url));
    wanted.sort_by(|a, b| a.url.cmp(&b.url));
    assert_eq!(records, wanted);
    let again = render(&workspace, Some(&file), &[]).unwrap();
    assert_eq!(again, text);
}

/// Locks `records` for a manifest and tells why they do not satisfy another one.
#[track_caller]
fn unsatisfied(locked_for: &str, records: &[RepoDataRecord], wanted: &str, expected: Expect) -> Unsatisfied {
    let before = workspace(locked_for);
    let text = lock_all(&before, records);
    unsatisfied_text(&text, wanted, expected)
}

#[track_caller]
fn unsatisfied_text(text: &str, wanted: &str, expected: Expect) -> Unsatisfied {
    let after = workspace(wanted);
    let file = locked(text, &after);
    let (environment, platform) = after.targets().last().unwrap();
    let description = after.describe(&environment.name, &platform.name).unwrap();
    let reason = satisfies(&description, &file, NOW).unwrap_err();
    expected.assert_eq(&reason.to_string());
    reason
}

fn with(tables: &str) -> String {
    format!("{MANIFEST}{tables}")
}

fn workspace_keys(keys: &str) -> String {
    MANIFEST.replace("[dependencies]", &format!("{keys}\n[dependencies]"))
}

#[test]
fn every_reason_names_what_is_not_satisfied() {
    let reason = |manifest: &str, expected| unsatisfied(MANIFEST, &app(), manifest, expected);
    reason(&with("[environments]\nci = []\n"), expect!["environment `ci` is not in the lock file"]);
    reason(
        &MANIFEST.replace("\"linux-64\"", "\"linux-64\", \"osx-64\""),
        expect!["environment `default` is not locked for `osx-64`"],
    );
    reason(&MANIFEST.replace("\"main\"", "\"main\", \"./own\""), expect!["the channels `./own` were added"]);
    reason(
        &MANIFEST.replace("\"main\"", "\"./own\", \"main\""),
        expect![
            "the channels are `./own`, `https://conda.example/main/` and the lock file was made with `https://conda.example/main/`"
        ],
    );
    reason(
        &MANIFEST.replace("\"main\"", ""),
        expect!["the channels are none and the lock file was made with `https://conda.example/main/`"],
    );
    reason(
        &workspace_keys("solve-strategy = \"lowest\""),
        expect!["the solve strategy is `lowest` and the lock file was made with `highest`"],
    );
    reason(
        &workspace_keys("channel-priority = \"disabled\""),
        expect!["the channel priority is `disabled` and the lock file was made with `strict`"],
    );
    reason(
        &MANIFEST.replace(">=1", ">=2"),
        expect!["no locked package is `app >=2`, which the manifest needs (`app 1.0 h0_0` is locked)"],
    );
    reason(&with("new = \"*\"\n"), expect!["no locked package is `new`, which the manifest needs"]);
    reason(
        &with("lib = { version = \"*\", build = \"cuda*\" }\n"),
        expect![[r#"no locked package is `lib[build="cuda*"]`, which the manifest needs (`lib 2.5 h0_0` is locked)"#]],
    );
    reason(
        &with("[constraints]\nlib = \">=2.6\"\n"),
        expect!["`lib 2.5 h0_0` is locked, but is limited to `lib >=2.6`"],
    );
    reason(&MANIFEST.replace("app = \">=1\"", "lib = \"*\""), expect!["nothing needs the locked packages app"]);
    reason(
        &MANIFEST.replace("\"linux-64\"", "{ name = \"box\", platform = \"linux-64\", cuda = \"12\" }"),
        expect!["environment `default` is not locked for `box`"],
    );
}

#[test]
fn a_platform_that_changed_under_its_name_is_not_satisfied() {
    let before = MANIFEST.replace("\"linux-64\"", "{ name = \"box\", platform = \"linux-64\", cuda = \"11\" }");
    let after = before.replace("\"11\"", "\"12\"");
    unsatisfied(
        &before,
        &app(),
        &after,
        expect!["platform `box` is now linux-64 with __cuda=12 and was locked as linux-64 with __cuda=11"],
    );
}

#[test]
fn a_dependency_that_is_not_locked_is_not_satisfied() {
    let mut records = app();
    records.pop();
    unsatisfied(MANIFEST, &records, MANIFEST, expect!["no locked package is `base`, which `lib 2.5 h0_0` needs"]);
    records[0].package_record.depends = vec!["lib >=9".to_owned()];
    unsatisfied(
        MANIFEST,
        &records,
        MANIFEST,
        expect!["no locked package is `lib >=9`, which `app 1.0 h0_0` needs (`lib 2.5 h0_0` is locked)"],
    );
    records[0].package_record.depends = vec!["__cuda >=12".to_owned()];
    unsatisfied(
        MANIFEST,
        &records,
        MANIFEST,
        expect!["no locked package is `__cuda >=12`, which `app 1.0 h0_0` needs"],
    );
    records[0].package_record.depends = vec!["lib ==1 ==2 [nonsense]]".to_owned()];
    unsatisfied(
        MANIFEST,
        &records,
        MANIFEST,
        expect![
            "the dependency `lib ==1 ==2 [nonsense]]` of the locked `app 1.0 h0_0` cannot be read: invalid bracket"
        ],
    );
}

#[test]
fn two_packages_of_one_name_are_not_satisfied() {
    let mut records = app();
    records.push(record("lib", "2.6", &[]));
    unsatisfied(MANIFEST, &records, MANIFEST, expect!["`lib` is locked twice"]);
}

#[test]
fn a_package_from_after_the_cutoff_is_not_satisfied() {
    let mut records = app();
    let made: jiff::Timestamp = "2026-03-31T12:00:00Z".parse().unwrap();
    records[2].package_record.timestamp = Some(made.into());
    let text = lock_all(&workspace(MANIFEST), &records);
    unsatisfied_text(
        &text,
        &workspace_keys("exclude-newer = \"2026-03-30\""),
        expect!["`base 1 h0_0` is from 2026-03-31T12:00:00Z, which is after 2026-03-31T00:00:00Z (`exclude-newer`)"],
    );
    let satisfied_at = |keys: &str, now: SystemTime| {
        let workspace = workspace(&workspace_keys(keys));
        let description = workspace.describe("default", "linux-64").unwrap();
        satisfies(&description, &locked(&text, &workspace), now).is_ok()
    };
    assert!(satisfied_at("exclude-newer = \"2026-03-31\"", NOW));
    assert!(satisfied_at("exclude-newer = { cutoff = \"2026-03-30\", exemptions = { base = \"1.*\" } }", NOW));
    assert!(!satisfied_at("exclude-newer = { cutoff = \"2026-03-30\", exemptions = { base = \"2.*\" } }", NOW));
    assert!(satisfied_at("exclude-newer = \"2026-03-30\"\n[exclude-newer]\nbase = \"2026-04-01\"", NOW));
    let noon = SystemTime::from(made);
    assert!(!satisfied_at("exclude-newer = \"7d\"", noon + Duration::from_secs(7 * 86400 - 1)));
    assert!(satisfied_at("exclude-newer = \"7d\"", noon + Duration::from_secs(7 * 86400)));
}

#[test]
fn the_solver_finds_too_new_what_the_lock_file_check_does() {
    let keys =
        "exclude-newer = { cutoff = \"2026-03-30\", exemptions = { lib = \"2.5\" } }\n[exclude-newer]\napp = \"0d\"";
    let manifest =
        workspace_keys(keys).replace("\"main\"", "\"main\", { channel = \"./own\", exclude-newer = \"1d\" }");
    let workspace = workspace(&manifest);
    let description = workspace.describe("default", "linux-64").unwrap();
    let exclude = description.needs.exclude_newer.as_ref().unwrap();
    let day = |day: &str| SystemTime::from(format!("2026-{day}T00:00:00Z").parse::<jiff::Timestamp>().unwrap());
    let now = day("05-01");
    let for_solver = exclude.for_solver(workspace.root(), now).unwrap();
    let own = "file:///projects/app/own/";
    for (mut record, made, too_new) in [
        (record("base", "1", &[]), "03-29", false),
        (record("base", "1", &[]), "04-02", true),
        (record("lib", "2.5", &[]), "04-30", false),
        (record("lib", "2.6", &[]), "04-30", true),
        (record("app", "1.0", &[]), "04-30", false),
        (record("app", "1.0", &[]), "05-02", true),
        (record_in(own, "base", "1", &[]), "04-29", false),
        (record_in(own, "base", "1", &[]), "05-01", true),
    ] {
        let made = jiff::Timestamp::try_from(day(made)).unwrap();
        record.package_record.timestamp = Some(made.into());
        let cutoff = exclude.cutoff_for(&record, workspace.root(), crate::workspace::exclude_newer::milliseconds(now));
        assert_eq!(cutoff.is_some_and(|cutoff| made.as_millisecond() > cutoff), too_new, "{} {made}", record.url);
        assert_eq!(for_solver.is_excluded(&record), too_new, "{} {made}", record.url);
    }
}

#[test]
fn renaming_a_platform_changes_nothing_that_matters() {
    let before = MANIFEST.replace("\"linux-64\"", "{ name = \"box\", platform = \"linux-64\", cuda = \"12\" }");
    let text = lock_all(&workspace(&before), &app());
    let after = workspace(&before.replace("\"box\"", "\"machine\""));
    let file = locked(&text, &after);
    assert!(satisfies(&after.describe("default", "machine").unwrap(), &file, NOW).is_ok());
    let again = render(&after, Some(&file), &[]).unwrap();
    assert_eq!(again, text.replace("box", "machine"));
}

#[test]
fn packages_and_channels_inside_the_workspace_move_with_it() {
    let manifest = MANIFEST.replace("\"main\"", "\"./my channel\", \"../beside\"");
    let here = workspace(&manifest);
    let records = [
        record_in("file:///projects/app/my%20channel/", "app", "1.0", &["lib"]),
        record_in("file:///projects/beside/", "lib", "2.5", &[]),
    ];
    let text = lock_all(&here, &records);
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
            - url: ./my channel
            - url: file:///projects/beside/
            packages:
              linux-64:
              - conda: ./my channel/noarch/app-1.0-h0_0.conda
              - conda: /projects/beside/noarch/lib-2.5-h0_0.conda
        packages:
        - conda: ./my channel/noarch/app-1.0-h0_0.conda
          subdir: noarch
          depends:
          - lib
          size: 10
        - conda: /projects/beside/noarch/lib-2.5-h0_0.conda
          subdir: noarch
          channel: file:///projects/beside
          size: 10
    "#]]
    .assert_eq(&text);
    let description = here.describe("default", "linux-64").unwrap();
    assert_eq!(satisfies(&description, &locked(&text, &here), NOW).unwrap(), records);

    let options = ManifestOptions::default();
    let there = Workspace::parse(&manifest, Path::new("/projects/moved/pixi.toml"), &options).unwrap();
    let file = LockedFile::parse(&text, &there.lock_file_path(), there.root()).unwrap();
    let description = there.describe("default", "linux-64").unwrap();
    let moved = satisfies(&description, &file, NOW).unwrap();
    assert_eq!(moved[0].url.as_str(), "file:///projects/moved/my%20channel/noarch/app-1.0-h0_0.conda");
    assert_eq!(moved[0].channel.as_deref(), Some("file:///projects/moved/my%20channel/"));
    assert_eq!(render(&there, Some(&file), &[]).unwrap(), text);
}

#[test]
fn requirements_with_a_channel_or_an_archive_are_compared_with_the_place_of_the_record() {
    let manifest = r#"
[workspace]
channels = ["main", "./own"]
platforms = ["linux-64"]
[dependencies]
app = { version = "*", channel = "./own" }
lib = { path = "archives/lib-2.5-h0_0.conda" }
"#;
    let mut lib = record("lib", "2.5", &[]);
    lib.url = "file:///projects/app/archives/lib-2.5-h0_0.conda".parse().unwrap();
    let right = [record_in("file:///projects/app/own/", "app", "1.0", &[]), lib.clone()];
    let text = lock_all(&workspace(manifest), &right);
    let workspace = workspace(manifest);
    let description = workspace.describe("default", "linux-64").unwrap();
    let mut read = satisfies(&description, &locked(&text, &workspace), NOW).unwrap();
    read.sort_by(|a, b| a.package_record.name.cmp(&b.package_record.name));
    assert_eq!(read[1].url, lib.url);
    unsatisfied(
        manifest,
        &[record("app", "1.0", &[]), lib],
        manifest,
        expect![[
            r#"no locked package is `app[channel="file:///projects/app/own/"]`, which the manifest needs (`app 1.0 h0_0` is locked)"#
        ]],
    );
    unsatisfied(
        manifest,
        &[right[0].clone(), record("lib", "2.5", &[])],
        manifest,
        expect![[
            r#"no locked package is `lib[url="file:///projects/app/archives/lib-2.5-h0_0.conda"]`, which the manifest needs (`lib 2.5 h0_0` is locked)"#
        ]],
    );
}

#[test]
fn extras_and_conditions_are_followed() {
    let manifest = r#"
[workspace]
channels = ["main"]
platforms = ["linux-64"]
[dependencies]
app = { version = "*", extras = ["fast"] }
"#;
    let mut records = vec![
        record("app", "1.0", &["base", "unwanted[when=\"__win\"]", "linux-only[when=\"__linux\"]"]),
        record("base", "1", &[]),
        record("linux-only", "1", &[]),
        record("speed", "1", &[]),
    ];
    records[0].package_record.extra_depends.insert("fast".into(), vec!["speed".into()]);
    let workspace = workspace(manifest);
    let text = lock_all(&workspace, &records);
    let description = workspace.describe("default", "linux-64").unwrap();
    assert_eq!(satisfies(&description, &locked(&text, &workspace), NOW).unwrap().len(), 4);
    unsatisfied(
        &manifest.replace("fast", "slow"),
        &records,
        &manifest.replace("fast", "slow"),
        expect!["nothing needs the locked packages speed"],
    );
}

const GROUP: &str = r#"
[workspace]
channels = ["main"]
platforms = ["linux-64"]
[dependencies]
app = "*"
[feature.test.dependencies]
tester = "*"
[environments]
default = { solve-group = "all" }
test = { features = ["test"], solve-group = "all" }
only-test = { features = ["test"], no-default-feature = true, solve-group = "all" }
"#;

#[test]
fn each_environment_of_a_group_is_locked_with_what_it_reaches() {
    let workspace = workspace(GROUP);
    let unit = workspace.solve_unit("default", "linux-64").unwrap();
    let mut solved = app();
    solved.push(record("tester", "3", &["base"]));
    let descriptions: Vec<_> =
        unit.environments.iter().map(|name| workspace.describe(name, "linux-64").unwrap()).collect();
    let parts: Vec<Vec<RepoDataRecord>> =
        descriptions.iter().map(|description| reachable(&solved, description, &workspace)).collect();
    let names = |records: &[RepoDataRecord]| {
        records.iter().map(|record| record.package_record.name.as_normalized().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&parts[0]), ["app", "base", "lib"]);
    assert_eq!(names(&parts[1]), ["app", "base", "lib", "tester"]);
    assert_eq!(names(&parts[2]), ["base", "tester"]);
    let parts: Vec<LockedPackages> = parts.iter().map(|records| archives(records)).collect();
    let solves: Vec<_> =
        descriptions.iter().zip(&parts).map(|(description, packages)| Solved { description, packages }).collect();
    let text = render(&workspace, None, &solves).unwrap();
    let file = locked(&text, &workspace);
    let read = satisfies_together(&descriptions, &file, NOW).unwrap();
    assert_eq!(read.iter().map(Records::len).collect::<Vec<_>>(), [3, 4, 2]);

    let hints = locked_hints(&file, &unit, &Update::Nothing);
    assert_eq!(names(&hints), ["app", "base", "lib", "tester"]);
    let update = Update::Packages(BTreeSet::from(["lib".to_owned()]));
    assert_eq!(names(&locked_hints(&file, &unit, &update)), ["app", "base", "tester"]);
    assert_eq!(names(&locked_hints(&file, &unit, &Update::Everything)), [""; 0]);
}

#[test]
fn environments_solved_together_have_to_agree() {
    let workspace = workspace(GROUP);
    let describe = |name: &str| workspace.describe(name, "linux-64").unwrap();
    let (default, test) = (describe("default"), describe("only-test"));
    let tester = [record("tester", "3", &["base"]), record("base", "2", &[])];
    let solves = [
        Solved { description: &default, packages: &archives(&app()) },
        Solved { description: &test, packages: &archives(&tester) },
    ];
    let text = render(&workspace, None, &solves).unwrap();
    let reason = satisfies_together(&[default, test], &locked(&text, &workspace), NOW).unwrap_err();
    expect!["`base` is locked differently in the environments `default` and `only-test`, which are solved together"]
        .assert_eq(&reason.to_string());
}

#[test]
fn hints_come_from_the_channels_that_are_used_now() {
    let text = lock_all(&workspace(MANIFEST), &app());
    let after = workspace(&MANIFEST.replace("\"main\"", "\"./own\""));
    let unit = after.solve_unit("default", "linux-64").unwrap();
    assert_eq!(locked_hints(&locked(&text, &after), &unit, &Update::Nothing), []);
}

#[test]
fn only_what_was_solved_changes() {
    let manifest = with("[environments]\nci = []\nold = []\n").replace("\"linux-64\"", "\"linux-64\", \"osx-64\"");
    let before = workspace(&manifest);
    let mut old = app();
    old[0].package_record.depends = vec!["lib".to_owned()];
    let file = locked(&lock_all(&before, &old), &before);
    let after = workspace(&manifest.replace("old = []\n", ""));
    let description = after.describe("ci", "osx-64").unwrap();
    let records = [record("app", "2.0", &[])];
    let text =
        render(&after, Some(&file), &[Solved { description: &description, packages: &archives(&records) }]).unwrap();
    let file = locked(&text, &after);
    assert_eq!(file.environments(), ["ci", "default"]);
    assert_eq!(satisfies(&description, &file, NOW).unwrap(), records);
    for (environment, platform) in [("ci", "linux-64"), ("default", "linux-64"), ("default", "osx-64")] {
        let description = after.describe(environment, platform).unwrap();
        assert_eq!(satisfies(&description, &file, NOW).unwrap().len(), 3, "{environment} {platform}");
    }
}

#[test]
fn what_a_channel_says_now_goes_before_what_it_said() {
    let workspace = workspace(&with("[environments]\na-first = []\nz-last = []\n"));
    let file = locked(&lock_all(&workspace, &app()), &workspace);
    let mut patched = app();
    patched[1].package_record.depends = vec!["base <3".to_owned()];
    let description = workspace.describe("default", "linux-64").unwrap();
    let text = render(&workspace, Some(&file), &[Solved { description: &description, packages: &archives(&patched) }])
        .unwrap();
    let file = locked(&text, &workspace);
    let records = satisfies(&description, &file, NOW).unwrap();
    assert!(patched.iter().all(|record| records.contains(record)));
}

#[test]
fn what_nobody_asks_for_is_surplus_and_goes_without_a_solve() {
    let manifest = with("[environments]\nold = []\n").replace("\"linux-64\"", "\"linux-64\", \"osx-64\"");
    let before = workspace(&manifest);
    let file = locked(&lock_all(&before, &app()), &before);
    assert_eq!(file.surplus(&before), []);
    let after = workspace(MANIFEST);
    let surplus: Vec<_> = file.surplus(&after).iter().map(ToString::to_string).collect();
    assert_eq!(surplus, ["platform `osx-64` of environment `default`", "environment `old`"]);
    let text = render(&after, Some(&file), &[]).unwrap();
    assert_eq!(text, lock_all(&after, &app()));
}

#[test]
fn a_change_of_channels_needs_a_solve_of_all_platforms() {
    let manifest = MANIFEST.replace("\"linux-64\"", "\"linux-64\", \"osx-64\"");
    let before = workspace(&manifest);
    let file = locked(&lock_all(&before, &app()), &before);
    let after = workspace(&manifest.replace("\"main\"", "\"main\", \"more\""));
    let description = after.describe("default", "osx-64").unwrap();
    let solve = [Solved { description: &description, packages: &archives(&app()) }];
    let error = render(&after, Some(&file), &solve).unwrap_err();
    expect!["channels or options of environment `default` change, but it was not solved for linux-64"]
        .assert_eq(&error.to_string());
}

#[test]
fn the_order_of_records_and_solves_makes_no_difference() {
    let manifest = with("[environments]\nci = []\n").replace("\"linux-64\"", "\"linux-64\", \"osx-64\"");
    let workspace = workspace(&manifest);
    let text = lock_all(&workspace, &app());
    let descriptions: Vec<EnvironmentDescription> = workspace
        .targets()
        .map(|(environment, platform)| workspace.describe(&environment.name, &platform.name).unwrap())
        .collect();
    let reversed = archives(&app().into_iter().rev().collect::<Vec<_>>());
    let solves: Vec<_> =
        descriptions.iter().rev().map(|description| Solved { description, packages: &reversed }).collect();
    assert_eq!(render(&workspace, None, &solves).unwrap(), text);
}

#[test]
fn an_environment_without_packages_is_locked_too() {
    let workspace = workspace(&MANIFEST.replace("app = \">=1\"", ""));
    let text = lock_all(&workspace, &[]);
    let description = workspace.describe("default", "linux-64").unwrap();
    assert_eq!(satisfies(&description, &locked(&text, &workspace), NOW).unwrap(), []);
}

/// As pixi wrote it before there was version 7, with packages of the Python index.
const VERSION_6: &str = "\
version: 6
environments:
  default:
    channels:
    - url: https://conda.example/main/
    indexes:
    - https://conda.example/simple
    packages:
      linux-64:
      - conda: https://conda.example/main/noarch/app-1.0-h0_0.conda
      - conda: https://conda.example/main/linux-64/base-1-h0_0.conda
      - pypi: https://conda.example/files/thing-3.0-py3-none-any.whl
packages:
- conda: https://conda.example/main/noarch/app-1.0-h0_0.conda
  sha256: a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447
  md5: 6f5902ac237024bdd0c176cb93063dc4
  depends:
  - base >=1
  - __glibc >=2.17,<3.0.a0
  license: MIT
  size: 1234
  timestamp: 1700000000000
- conda: https://conda.example/main/linux-64/base-1-h0_0.conda
  sha256: b948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447
  size: 99
- pypi: https://conda.example/files/thing-3.0-py3-none-any.whl
  name: thing
  version: '3.0'
  sha256: c948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447
  requires_python: '>=3.8'
";

const WITH_PYPI: &str = "[pypi-dependencies]\nthing = \"*\"\n";

#[test]
fn an_older_file_that_satisfies_is_taken_as_it_is() {
    for manifest in [with(WITH_PYPI), with(&format!("{WITH_PYPI}[system-requirements]\ncuda = \"12\"\n"))] {
        let workspace = workspace(&manifest);
        let file = locked(VERSION_6, &workspace);
        assert_eq!(file.version(), 6);
        let description = workspace.describe("default", "linux-64").unwrap();
        let records = satisfies(&description, &file, NOW).unwrap();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].channel.as_deref(), Some("https://conda.example/main/"));
        assert!(file.surplus(&workspace).is_empty());
    }
}

#[test]
fn an_older_file_that_changes_keeps_what_was_not_solved() {
    let workspace = workspace(&with(&format!("{WITH_PYPI}[environments]\nci = []\n")));
    let file = locked(VERSION_6, &workspace);
    let description = workspace.describe("ci", "linux-64").unwrap();
    let records = [record("app", "2.0", &["__linux"])];
    let text = render(&workspace, Some(&file), &[Solved { description: &description, packages: &archives(&records) }])
        .unwrap();
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
          ci:
            channels:
            - url: https://conda.example/main/
            packages:
              linux-64:
              - conda: https://conda.example/main/noarch/app-2.0-h0_0.conda
          default:
            channels:
            - url: https://conda.example/main/
            indexes:
            - https://conda.example/simple
            packages:
              linux-64:
              - conda: https://conda.example/main/linux-64/base-1-h0_0.conda
              - conda: https://conda.example/main/noarch/app-1.0-h0_0.conda
              - pypi: https://conda.example/files/thing-3.0-py3-none-any.whl
        packages:
        - conda: https://conda.example/main/linux-64/base-1-h0_0.conda
          sha256: b948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447
          size: 99
        - conda: https://conda.example/main/noarch/app-1.0-h0_0.conda
          sha256: a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447
          md5: 6f5902ac237024bdd0c176cb93063dc4
          depends:
          - base >=1
          - __glibc >=2.17,<3.0.a0
          license: MIT
          size: 1234
          timestamp: 1700000000000
        - conda: https://conda.example/main/noarch/app-2.0-h0_0.conda
          depends:
          - __linux
          size: 10
        - pypi: https://conda.example/files/thing-3.0-py3-none-any.whl
          name: thing
          version: '3.0'
          sha256: c948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447
          index: https://conda.example/simple
          requires_python: '>=3.8'
    "#]]
    .assert_eq(&text);
    let file = locked(&text, &workspace);
    assert_eq!(render(&workspace, Some(&file), &[]).unwrap(), text);
    for environment in ["default", "ci"] {
        satisfies(&workspace.describe(environment, "linux-64").unwrap(), &file, NOW).unwrap();
    }
}

#[test]
fn packages_of_the_python_index_are_kept_or_refused_but_never_lost() {
    let with_pypi = workspace(&with(WITH_PYPI));
    let file = locked(VERSION_6, &with_pypi);
    let description = with_pypi.describe("default", "linux-64").unwrap();
    let same = satisfies(&description, &file, NOW).unwrap();
    let text =
        render(&with_pypi, Some(&file), &[Solved { description: &description, packages: &archives(&same) }]).unwrap();
    assert!(text.contains("pypi: https://conda.example/files/thing-3.0-py3-none-any.whl"), "{text}");
    assert!(text.contains("indexes:"), "{text}");

    let error = render(&with_pypi, Some(&file), &[Solved { description: &description, packages: &archives(&app()) }])
        .unwrap_err();
    expect!["the conda packages of environment `default` on `linux-64` change, and with them the locked packages of the Python index would have to be solved again, which is not done: thing"].assert_eq(&error.to_string());

    let without = workspace(MANIFEST);
    let description = without.describe("default", "linux-64").unwrap();
    let reason = satisfies(&description, &file, NOW).unwrap_err();
    expect!["packages of the Python index are locked, but none are declared: thing"].assert_eq(&reason.to_string());
    let text =
        render(&without, Some(&file), &[Solved { description: &description, packages: &archives(&same) }]).unwrap();
    assert!(!text.contains("pypi") && !text.contains("indexes"), "{text}");
}

/// An environment with a package that is built from source, with what it is built with.
const WITH_SOURCE: &str = "\
version: 7
platforms:
- name: linux-64
environments:
  default:
    channels:
    - url: https://conda.example/main/
    packages:
      linux-64:
      - conda: https://conda.example/main/noarch/base-1-h0_0.conda
  src:
    channels:
    - url: https://conda.example/main/
    packages:
      linux-64:
      - conda_source: mine[12345678] @ packages/mine
packages:
- conda: https://conda.example/main/noarch/base-1-h0_0.conda
  size: 10
- conda: https://conda.example/main/noarch/compiler-7-h0_0.conda
  size: 10
- conda_source: mine[12345678] @ packages/mine
  build_packages:
  - conda: https://conda.example/main/noarch/compiler-7-h0_0.conda
";

#[test]
fn sources_of_other_environments_are_carried_over_with_what_they_are_built_with() {
    let manifest = r#"
[workspace]
channels = ["main"]
platforms = ["linux-64"]
[dependencies]
base = "*"
[feature.src.dependencies]
mine = { path = "packages/mine" }
[environments]
src = { features = ["src"], no-default-feature = true }
"#;
    let workspace = workspace(manifest);
    let file = locked(WITH_SOURCE, &workspace);
    let description = workspace.describe("default", "linux-64").unwrap();
    let records = [record("base", "2", &[])];
    let text = render(&workspace, Some(&file), &[Solved { description: &description, packages: &archives(&records) }])
        .unwrap();
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
              - conda: https://conda.example/main/noarch/base-2-h0_0.conda
          src:
            channels:
            - url: https://conda.example/main/
            packages:
              linux-64:
              - conda_source: mine[12345678] @ packages/mine
        packages:
        - conda: https://conda.example/main/noarch/base-2-h0_0.conda
          size: 10
        - conda: https://conda.example/main/noarch/compiler-7-h0_0.conda
          size: 10
        - conda_source: mine[12345678] @ packages/mine
          build_packages:
          - conda: https://conda.example/main/noarch/compiler-7-h0_0.conda
    "#]]
    .assert_eq(&text);
    let again = locked(&text, &workspace);
    assert_eq!(render(&workspace, Some(&again), &[]).unwrap(), text);

    let wanted = manifest.replace("{ path = \"packages/mine\" }", "\"*\"");
    unsatisfied_text(WITH_SOURCE, &wanted, expect!["`mine` is locked as a source, but is wanted from a channel"]);
}

#[test]
fn what_is_no_lock_file_is_refused_with_advice() {
    let workspace = workspace(MANIFEST);
    let refused = |text: &str| {
        let error = LockedFile::parse(text, Path::new("/projects/app/pixi.lock"), workspace.root()).unwrap_err();
        crate::workspace::tests::errors::rendered(&error)
    };
    let good = lock_all(&workspace, &app());
    let conflict = good.replacen("environments:", "<<<<<<< HEAD\nenvironments:\n=======\nother:\n>>>>>>> branch", 1);
    expect![[r#"
        × the lock file `/projects/app/pixi.lock` has an unresolved merge conflict in line 9
        help: take the file of one side, as with `git checkout --ours /projects/app/pixi.lock`, and
              solve: the manifest decides what changes
    "#]]
    .assert_eq(&refused(&conflict));
    expect![[r#"
          × the lock file `/projects/app/pixi.lock` is empty
          help: delete it to solve again, or restore it from version control
    "#]]
    .assert_eq(&refused(""));
    expect![[r#"
          × the lock file `/projects/app/pixi.lock` has format version 8, of which only those up to 7 are
          │ known
          help: use a newer release, or delete the file to solve again
    "#]]
    .assert_eq(&refused(&good.replace("version: 7", "version: 8")));
    expect![[r#"
          × the lock file `/projects/app/pixi.lock` cannot be understood
          ╰─▶ missing `version` field in lock file
          help: delete it to solve again, or restore it from version control
    "#]]
    .assert_eq(&refused("not: a lock file\n"));
    expect![[r#"
          × the lock file `/projects/app/pixi.lock` cannot be understood
          ╰─▶ did not find expected node content at line 2 column 1, while parsing a flow node
          help: delete it to solve again, or restore it from version control
    "#]]
    .assert_eq(&refused("{{{{"));
    expect![[r#"
          × the lock file `/projects/app/pixi.lock` cannot be understood
          ╰─▶ environment default and platform linux-64 refers to a package that does not exist: https://
              conda.example/main/noarch/base-1-h0_0.conda
          help: delete it to solve again, or restore it from version control
    "#]]
    .assert_eq(&refused(
        &good.replace("- conda: https://conda.example/main/noarch/base-1-h0_0.conda\n  size: 10\n", ""),
    ));
    let missing = load(Path::new("/nonexistent/pixi.lock"), workspace.root()).unwrap();
    assert!(missing.is_none());
}

#[test]
fn a_lock_file_is_written_once_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pixi.lock");
    assert_eq!(write_if_changed(&path, "version: 7\n").unwrap(), Written::Created);
    let first = std::fs::metadata(&path).unwrap();
    assert_eq!(write_if_changed(&path, "version: 7\n").unwrap(), Written::Unchanged);
    assert_eq!(std::fs::metadata(&path).unwrap().modified().unwrap(), first.modified().unwrap());
    std::fs::write(&path, VERSION_6).unwrap();
    assert_eq!(write_if_changed(&path, "version: 7\n").unwrap(), Written::Updated { from_version: Some(6) });
    std::fs::write(&path, "garbage").unwrap();
    assert_eq!(write_if_changed(&path, "version: 7\n").unwrap(), Written::Updated { from_version: None });
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "version: 7\n");
    let left: Vec<_> = std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["pixi.lock"], "nothing temporary is left behind");
    assert!(write_if_changed(&directory.path().join("absent/pixi.lock"), "x").is_err());
}

#[cfg(unix)]
#[test]
fn a_replaced_lock_file_keeps_its_permissions_and_its_link() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    let directory = tempfile::tempdir().unwrap();
    let target = directory.path().join("elsewhere.lock");
    let path = directory.path().join("pixi.lock");
    symlink("elsewhere.lock", &path).unwrap();
    assert_eq!(write_if_changed(&path, "one").unwrap(), Written::Created, "a link to nothing yet");
    std::fs::set_permissions(&target, std::fs::Permissions::from_mode(0o640)).unwrap();
    write_if_changed(&path, "two").unwrap();
    assert!(path.is_symlink());
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "two");
    assert_eq!(std::fs::metadata(&target).unwrap().permissions().mode() & 0o777, 0o640);

    symlink("b.lock", directory.path().join("a.lock")).unwrap();
    symlink("a.lock", directory.path().join("b.lock")).unwrap();
    assert!(write_if_changed(&directory.path().join("a.lock"), "x").is_err(), "links that lead nowhere");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_mutilated_lock_file_brings_the_reader_down(
        seed in prop::sample::select(vec![VERSION_6.to_owned(), WITH_SOURCE.to_owned(), lock_all(&workspace(MANIFEST), &app())]),
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..30usize, "[a-z0-9:/. \\-\\n]{0,6}"), 1..4),
    ) {
        let mut text = seed;
        for (at, length, insert) in cuts {
            let at = at.index(text.len());
            let end = (at + length).min(text.len());
            text.replace_range(at..end, &insert);
        }
        let workspace = workspace(&with(WITH_PYPI));
        if let Ok(file) = LockedFile::parse(&text, &workspace.lock_file_path(), workspace.root()) {
            let description = workspace.describe("default", "linux-64").unwrap();
            let unit = workspace.solve_unit("default", "linux-64").unwrap();
            let _ = satisfies(&description, &file, NOW).map_err(|reason| reason.to_string());
            for (environment, _) in file.entries() {
                let _ = file.packages_of(environment, &description.platform());
            }
            let _ = locked_sources(&file, &unit);
            let _ = locked_hints(&file, &unit, &Update::Nothing);
            let _ = file.surplus(&workspace);
            if let Ok(text) = render(&workspace, Some(&file), &[]) {
                locked(&text, &workspace);
            }
        }
    }

    #[test]
    fn whatever_is_locked_for_a_manifest_satisfies_it(
        edges in prop::collection::vec((0..8usize, 0..8usize), 0..16),
        roots in prop::collection::btree_set(0..8usize, 0..4),
    ) {
        let records: Vec<_> = (0..8usize)
            .map(|index| {
                let depends: Vec<String> = edges
                    .iter()
                    .filter(|(from, _)| *from == index)
                    .map(|(_, to)| format!("p{to} >=1"))
                    .collect();
                record(&format!("p{index}"), "1", &depends.iter().map(String::as_str).collect::<Vec<_>>())
            })
            .collect();
        let wanted: String = roots.iter().map(|root| format!("p{root} = \">=1\"\n")).collect();
        let workspace = workspace(&MANIFEST.replace("app = \">=1\"\n", &wanted));
        let description = workspace.describe("default", "linux-64").unwrap();
        let reached = reachable(&records, &description, &workspace);
        let text = lock_all(&workspace, &reached);
        let file = locked(&text, &workspace);
        prop_assert_eq!(satisfies(&description, &file, NOW).unwrap(), reached.clone());
        prop_assert_eq!(render(&workspace, Some(&file), &[]).unwrap(), text);
        // One more than is needed, and one less, are both found.
        if let Some(extra) = records.iter().find(|record| !reached.contains(record)) {
            let more: Vec<_> = reached.iter().chain([extra]).cloned().collect();
            let file = locked(&lock_all(&workspace, &more), &workspace);
            prop_assert!(satisfies(&description, &file, NOW).is_err());
        }
        if let Some((_, less)) = reached.split_first() {
            let file = locked(&lock_all(&workspace, less), &workspace);
            prop_assert!(satisfies(&description, &file, NOW).is_err());
        }
    }
}
