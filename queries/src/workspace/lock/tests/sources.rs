//! Packages in lock files that are built from source.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use doge::Interned;
use rattler_lock::{SourceIdentifier, UrlOrPath, VariantValue};

use super::*;
use crate::source::{GitReference, LockedMetadata, LockedSource, Locking, PinnedSource, SourceLocation, SourceRecord};
use crate::workspace::lock::{
    pin::{read_build_source, read_location, read_pin, written_build_source, written_location, written_pin},
    sources::Comparison,
};
use crate::workspace::{Requirement, SolveDescription, SourceRequirement};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const SHA256: &str = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447";
const MD5: &str = "6f5902ac237024bdd0c176cb93063dc4";

fn path(path: &str) -> PinnedSource {
    PinnedSource::Path { path: path.to_owned() }
}

fn git(reference: GitReference, subdirectory: &str) -> PinnedSource {
    PinnedSource::Git {
        url: "https://git.example/mine.git".to_owned(),
        commit: COMMIT.to_owned(),
        reference,
        subdirectory: subdirectory.to_owned(),
        lfs: None,
    }
}

fn archive(subdirectory: &str) -> PinnedSource {
    PinnedSource::Url {
        url: "https://host.example/mine.tar.gz".to_owned(),
        sha256: SHA256.to_owned(),
        md5: None,
        subdirectory: subdirectory.to_owned(),
    }
}

/// What a source makes of a package.
fn built(name: &str, manifest: PinnedSource, depends: &[&str]) -> SourceRecord {
    let mut package = record(name, "1.0", depends).package_record;
    package.size = None;
    SourceRecord {
        record: package,
        sources: BTreeMap::new(),
        manifest,
        build_source: None,
        variants: BTreeMap::new(),
        build: Records::default(),
        host: Records::default(),
    }
}

fn named(record: SourceRecord) -> Interned<SourceRecord> {
    Interned::named(record).unwrap()
}

fn shared(records: impl IntoIterator<Item = SourceRecord>) -> Vec<Interned<SourceRecord>> {
    records.into_iter().map(named).collect()
}

/// What sources make of their packages, in the order of their names.
fn offered(records: impl IntoIterator<Item = SourceRecord>) -> Records {
    Records::with_sources(Vec::new(), shared(records))
}

/// What a lock file says of records.
fn packages_of(records: &Records) -> LockedPackages {
    Locking::default().packages(records).unwrap()
}

/// What a lock file says of a package that is built.
fn source_of(record: &SourceRecord) -> Interned<LockedSource> {
    Locking::default().source(&named(record.clone())).unwrap()
}

/// What is said of all packages that are built, down to what they are built with: of two names alone nobody sees in
/// what they differ.
fn in_full(packages: &LockedPackages) -> Vec<Arc<LockedSource>> {
    let (mut all, mut seen, mut rest) = (Vec::new(), HashSet::new(), packages.source.clone());
    while let Some(name) = rest.pop() {
        if seen.insert(name.fingerprint()) {
            let source = name.at_hand().unwrap();
            rest.extend(source.build.source.iter().chain(&source.host.source).cloned());
            all.push(source);
        }
    }
    all
}

#[track_caller]
fn assert_same(one: &LockedPackages, other: &LockedPackages) {
    assert_eq!(in_full(one), in_full(other));
    assert_eq!(one, other);
}

fn requirement(name: &str, location: SourceLocation) -> SourceRequirement {
    SourceRequirement { name: name.to_owned(), location, spec: name.to_owned() }
}

/// The workspace of [`MANIFEST`], whose environment also needs `mine` from source.
fn needing_mine(location: SourceLocation) -> (Workspace, EnvironmentDescription) {
    let workspace = workspace(MANIFEST);
    let mut description = workspace.describe("default", "linux-64").unwrap();
    description.needs.sources = vec![requirement("mine", location)];
    (workspace, description)
}

fn lock(workspace: &Workspace, description: &EnvironmentDescription, records: &Records) -> String {
    let packages = packages_of(records);
    render(workspace, None, &[Solved { description, packages: &packages }]).unwrap()
}

/// A package with everything a lock file can say of one: what it is built with is built itself.
fn everything() -> SourceRecord {
    let mut tool = built("tool", git(GitReference::Tag("v1".to_owned()), "tools/tool"), &["base"]);
    tool.record.run_exports =
        Some(rattler_conda_types::package::RunExportsJson { strong: vec!["runtime".to_owned()], ..Default::default() });
    tool.host = Records::new(vec![record("base", "1", &[])]);
    let mut mine = built("mine", path("packages/mine"), &["lib >=2,<3", "other"]);
    mine.record.license = Some("MIT".to_owned());
    mine.record.constrains = vec!["old <1".to_owned()];
    mine.record.extra_depends.insert("fast".to_owned(), vec!["speed".to_owned()]);
    mine.sources.insert("other".to_owned(), SourceLocation::path("../other"));
    mine.build_source = Some(path("sources/mine"));
    mine.variants.insert("python".to_owned(), VariantValue::String("3.12".to_owned()));
    mine.variants.insert("cuda".to_owned(), VariantValue::Int(12));
    mine.build = Records::with_sources(vec![record("compiler", "7", &[])], shared([tool]));
    mine.host = Records::new(vec![record("base", "1", &[]), record("lib", "2.5", &["base"])]);
    mine
}

#[test]
fn a_package_is_locked_with_where_it_is_from_and_all_it_is_built_with() {
    let (workspace, description) = needing_mine(SourceLocation::path("packages/mine"));
    let mut binary = app();
    binary.push(record("speed", "1", &[]));
    let other = built("other", git(GitReference::DefaultBranch, ""), &[]);
    let records = Records::with_sources(binary, shared([everything(), other]));
    let text = lock(&workspace, &description, &records);
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
              - conda: https://conda.example/main/noarch/speed-1-h0_0.conda
              - conda_source: mine[ceed5194] @ packages/mine
              - conda_source: other[ce90bbdb] @ git+https://git.example/mine.git#0123456789abcdef0123456789abcdef01234567
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
        - conda: https://conda.example/main/noarch/compiler-7-h0_0.conda
          size: 10
        - conda: https://conda.example/main/noarch/lib-2.5-h0_0.conda
          depends:
          - base
          size: 10
        - conda: https://conda.example/main/noarch/speed-1-h0_0.conda
          size: 10
        - conda_source: mine[ceed5194] @ packages/mine
          variants:
            cuda: 12
            python: '3.12'
          depends:
          - lib >=2,<3
          - other
          constrains:
          - old <1
          extra_depends:
            fast:
            - speed
          license: MIT
          source:
            path: ../../sources/mine
          source_depends:
            other:
              path: ../other
          build_packages:
          - conda: https://conda.example/main/noarch/compiler-7-h0_0.conda
          - conda_source: tool[e7e12e12] @ git+https://git.example/mine.git?subdirectory=tools%2Ftool&tag=v1#0123456789abcdef0123456789abcdef01234567
          host_packages:
          - conda: https://conda.example/main/noarch/base-1-h0_0.conda
          - conda: https://conda.example/main/noarch/lib-2.5-h0_0.conda
        - conda_source: other[ce90bbdb] @ git+https://git.example/mine.git#0123456789abcdef0123456789abcdef01234567
          version: '1.0'
          build: h0_0
          subdir: noarch
          noarch: generic
        - conda_source: tool[e7e12e12] @ git+https://git.example/mine.git?subdirectory=tools%2Ftool&tag=v1#0123456789abcdef0123456789abcdef01234567
          version: '1.0'
          build: h0_0
          subdir: noarch
          noarch: generic
          depends:
          - base
          run_exports:
            strong:
            - runtime
          host_packages:
          - conda: https://conda.example/main/noarch/base-1-h0_0.conda
    "#]].assert_eq(&text);
    let file = locked(&text, &workspace);
    let read = file.packages_of("default", &description.platform()).unwrap().unwrap();
    assert_same(&read, &packages_of(&records));
    assert_eq!(render(&workspace, Some(&file), &[]).unwrap(), text, "what is carried over stays as it is");
    let again = render(&workspace, Some(&file), &[Solved { description: &description, packages: &read }]).unwrap();
    assert_eq!(again, text, "what is read is written in the same way");
    let mut packages = packages_of(&records);
    packages.binary.reverse();
    packages.source.reverse();
    let solved = [Solved { description: &description, packages: &packages }];
    assert_eq!(render(&workspace, None, &solved).unwrap(), text, "the order makes no difference");
}

/// As pixi writes it.
const BY_PIXI: &str = "\
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
      - conda_source: beside[aaaaaaaa] @ git+https://git.example/mine.git?subdirectory=recipes%2Fbeside&branch=main#0123456789abcdef0123456789abcdef01234567
      - conda_source: here[bbbbbbbb] @ .
      - conda_source: inside[cccccccc] @ packages/inside
      - conda_source: outside[dddddddd] @ /elsewhere/outside
packages:
- conda: https://conda.example/main/noarch/base-1-h0_0.conda
- conda_source: beside[aaaaaaaa] @ git+https://git.example/mine.git?subdirectory=recipes%2Fbeside&branch=main#0123456789abcdef0123456789abcdef01234567
  version: 1.1.0
  build: h1_0
  subdir: noarch
  noarch: python
  source:
    path: ../../src
- conda_source: here[bbbbbbbb] @ .
  variants:
    python: '3.12'
    target_platform: linux-64
  depends:
  - inside
  source:
    git: https://git.example/code.git
    branch: main
    rev: 0123456789abcdef0123456789abcdef01234567
    subdir: code
  source_depends:
    inside:
      path: packages/inside
  build_packages:
  - conda: https://conda.example/main/noarch/base-1-h0_0.conda
  host_packages:
  - conda_source: inside[cccccccc] @ packages/inside
- conda_source: inside[cccccccc] @ packages/inside
  source:
    path: ../../src/inside
- conda_source: outside[dddddddd] @ /elsewhere/outside
  source:
    path: ../src
";

#[test]
fn what_pixi_wrote_is_understood() {
    let workspace = workspace(MANIFEST);
    let file = locked(BY_PIXI, &workspace);
    let platform = workspace.describe("default", "linux-64").unwrap().platform();
    let read = file.packages_of("default", &platform).unwrap().unwrap();
    let sources = read.sources().unwrap();
    let [beside, here, inside, outside] = sources.as_slice() else { panic!("there are four: {sources:#?}") };
    assert_eq!(beside.manifest, git(GitReference::Branch("main".to_owned()), "recipes/beside"));
    assert_eq!(beside.build_source, Some(git(GitReference::Rev(COMMIT.to_owned()), "src")), "in the same checkout");
    let LockedMetadata::Full(record) = &beside.metadata else { panic!("a commit does not change") };
    assert_eq!((record.version.as_str(), record.subdir.as_str()), ("1.1.0".into(), "noarch"));
    assert_eq!(here.manifest, path("."));
    assert_eq!(here.sources["inside"], SourceLocation::path("packages/inside"));
    assert_eq!(here.variants["python"], VariantValue::String("3.12".to_owned()));
    assert_eq!(here.host.sources().unwrap(), std::slice::from_ref(inside));
    assert_eq!(here.build.binary, read.binary);
    let Some(PinnedSource::Git { url, reference, subdirectory, .. }) = &here.build_source else { panic!("it is git") };
    assert_eq!((url.as_str(), subdirectory.as_str()), ("https://git.example/code.git", "code"));
    assert_eq!(*reference, GitReference::Branch("main".to_owned()));
    assert!(matches!(inside.metadata, LockedMetadata::Partial(_)));
    assert_eq!(inside.build_source, Some(path("src/inside")), "as seen from the manifest");
    assert_eq!(outside.build_source, Some(path("/elsewhere/src")));
}

#[test]
fn packages_in_an_older_file_are_read_as_far_as_it_tells() {
    let text = format!(
        "\
version: 6
environments:
  default:
    channels:
    - url: https://conda.example/main/
    packages:
      linux-64:
      - conda: packages/mine
      - conda: git+https://git.example/mine.git?tag=v1#{COMMIT}
packages:
- conda: packages/mine
  name: mine
  version: 0.1.0
  build: hbf21a9e_0
  subdir: noarch
  depends:
  - base
  input:
    hash: {SHA256}
    globs:
    - pixi.toml
- conda: git+https://git.example/mine.git?tag=v1#{COMMIT}
  name: other
  version: 2.0.0
  build: h1_0
  subdir: linux-64
"
    );
    let (workspace, description) = needing_mine(SourceLocation::path("packages/mine"));
    let file = locked(&text, &workspace);
    let read = file.packages_of("default", &description.platform()).unwrap().unwrap();
    let sources = read.sources().unwrap();
    let [mine, other] = sources.as_slice() else { panic!("there are two: {sources:#?}") };
    assert_eq!((mine.name(), &mine.manifest), ("mine", &path("packages/mine")));
    assert_eq!((other.name(), &other.manifest), ("other", &git(GitReference::Tag("v1".to_owned()), "")));
    assert!(mine.build.is_empty() && mine.host.is_empty());
    let current =
        offered([built("mine", path("packages/mine"), &["base"]), built("other", other.manifest.clone(), &[])]);
    let reason = super::super::satisfies(&description, &file, &current, NOW).unwrap_err();
    expect!["`mine` is locked, but its metadata is not what it was"].assert_eq(&reason.to_string());
}

#[test]
fn what_cannot_be_understood_is_an_error_that_names_the_entry() {
    let refused = |location: &str, rest: &str| {
        let workspace = workspace(MANIFEST);
        let entry = format!("conda_source: mine[12345678] @ {location}");
        let environment = "environments:\n  default:\n    channels: []\n    packages:\n      linux-64:\n";
        let text = format!(
            "version: 7\nplatforms:\n- name: linux-64\n{environment}      - {entry}\npackages:\n- {entry}\n{rest}"
        );
        let file = locked(&text, &workspace);
        let platform = workspace.describe("default", "linux-64").unwrap().platform();
        let error = file.packages_of("default", &platform).unwrap().unwrap_err();
        assert!(render(&workspace, Some(&file), &[]).is_ok() || rest.contains("_packages:"), "it can be carried over");
        error
    };
    let rendered = crate::workspace::tests::errors::rendered;
    expect![[r#"
        × `mine[12345678] @ git+https://git.example/mine.git` in the lock file `/projects/app/pixi.lock`
        │ cannot be understood
        ╰─▶ `https://git.example/mine.git` names no commit
        help: delete the file to solve again, or restore it from version control
    "#]]
    .assert_eq(&rendered(&refused("git+https://git.example/mine.git", "")));
    expect![[r#"
        × `mine[12345678] @ packages/mine` in the lock file `/projects/app/pixi.lock` cannot be
        │ understood
        ╰─▶ it is needed to build itself
        help: delete the file to solve again, or restore it from version control
    "#]]
    .assert_eq(&rendered(&refused(
        "packages/mine",
        "  build_packages:\n  - conda_source: mine[12345678] @ packages/mine\n",
    )));
    let reasons: Vec<String> = [
        ("git+https://git.example/mine.git#0123", ""),
        ("git+https://git.example/mine.git?tag=a&branch=b#0123456789abcdef0123456789abcdef01234567", ""),
        ("git+https://git.example/mine.git?lfs=maybe#0123456789abcdef0123456789abcdef01234567", ""),
        ("git+:#0123456789abcdef0123456789abcdef01234567", ""),
        ("https://host.example/mine.tar.gz", ""),
        ("https://host.example/mine.tar.gz#sha256=12", ""),
        (
            "git+https://git.example/mine.git?subdirectory=a#0123456789abcdef0123456789abcdef01234567",
            "  source:\n    path: ../../b\n",
        ),
        (".", "  source:\n    git: https://git.example/mine.git\n    rev: main\n"),
        (&format!("git+https://git.example/mine.git?subdirectory=a/../../b#{COMMIT}"), ""),
        (&format!("https://host.example/mine.tar.gz#sha256={SHA256}&subdirectory=/b"), ""),
        (".", &format!("  source:\n    git: https://git.example/mine.git\n    rev: {COMMIT}\n    subdir: ../b\n")),
        (".", &format!("  source:\n    url: https://host.example/a.zip\n    sha256: {SHA256}\n    subdir: ..\n")),
    ]
    .into_iter()
    .map(|(location, rest)| match refused(location, rest) {
        LockFileError::Source { source, .. } => source.to_string(),
        other => panic!("it is about a source: {other}"),
    })
    .collect();
    expect![[r#"
        `https://git.example/mine.git#0123` names no commit
        `https://git.example/mine.git?tag=a&branch=b#0123456789abcdef0123456789abcdef01234567` names more than one of branch, tag and revision
        `lfs` is `maybe`, which is neither `true` nor `false`
        `:#0123456789abcdef0123456789abcdef01234567` is not a URL
        `https://host.example/mine.tar.gz` has no SHA-256
        `12` is not a hash
        the path `../../b` leads out of its checkout
        `https://git.example/mine.git` names no commit
        the path `a/../../b` leads out of its checkout
        the path `/b` leads out of its checkout
        the path `../b` leads out of its checkout
        the path `..` leads out of its checkout"#]]
    .assert_eq(&reasons.join("\n"));
}

/// The package `mine`, built against 40 layers of two, each of which is built against both of the next: a tree of 2^40.
/// Those of the last layer are built with this compiler.
fn layered(compiler: &RepoDataRecord) -> SourceRecord {
    let mut host = Records::default();
    for layer in (1..=40).rev() {
        let pair = ["a", "b"].map(|side| {
            let name = format!("{side}{layer}");
            let mut package = built(&name, path(&format!("packages/{name}")), &[]);
            if layer == 40 {
                package.build = Records::new(vec![compiler.clone()]);
            }
            package.host = host.clone();
            package
        });
        host = offered(pair);
    }
    SourceRecord { host, ..built("mine", path("packages/mine"), &[]) }
}

#[test]
fn packages_built_against_each_other_in_many_layers_are_each_looked_at_once() {
    let compiler = record("compiler", "7", &[]);
    let mut told_otherwise = compiler.clone();
    told_otherwise.package_record.license = Some("MIT".to_owned());
    let [mine, same, newer] = [&compiler, &told_otherwise, &record("compiler", "8", &[])].map(layered);
    let packages = |mine: &SourceRecord| packages_of(&Records::with_sources(app(), shared([mine.clone()])));
    let [locked_mine, locked_same, locked_newer] = [&mine, &same, &newer].map(packages);
    assert_eq!(in_full(&locked_mine).len(), 81);

    // Not one of the names is the same, so all of it has to be compared.
    assert_ne!(locked_mine.source, locked_same.source);
    assert!(Comparison::default().is_same(&locked_mine, &locked_same));
    assert!(!Comparison::default().is_same(&locked_mine, &locked_newer));

    let workspace = workspace(&with("[environments]\nci = []\nlast = []\n"));
    let describe = |name: &str| {
        let mut description = workspace.describe(name, "linux-64").unwrap();
        description.needs.sources = vec![requirement("mine", SourceLocation::path("packages/mine"))];
        description
    };
    let [default, ci, last] = ["default", "ci", "last"].map(describe);
    // Of what means the same the first is written: what is said for `ci`.
    let solved = [(&ci, &locked_mine), (&default, &locked_same), (&last, &locked_newer)]
        .map(|(description, packages)| Solved { description, packages });
    let text = render(&workspace, None, &solved).unwrap();
    assert_eq!(text.matches("\n- conda_source: ").count(), 2 * 81, "what means the same is written once");
    let file = locked(&text, &workspace);
    assert_eq!(render(&workspace, Some(&file), &[]).unwrap(), text, "what is carried over is not unfolded");

    let read = |description: &EnvironmentDescription| {
        file.packages_of(&description.environment, &description.platform()).unwrap().unwrap()
    };
    assert_same(&read(&ci), &locked_mine);
    assert_same(&read(&default), &locked_mine);
    assert_same(&read(&last), &locked_newer);
    let unit = workspace.solve_unit("default", "linux-64").unwrap();
    assert_eq!(locked_sources(&file, &unit), locked_mine.source);

    for now in [mine, same] {
        let current = offered([now]);
        let records = super::super::satisfies(&default, &file, &current, NOW).unwrap();
        assert_eq!(records.sources(), current.sources());
    }
    let reason = super::super::satisfies(&default, &file, &offered([newer]), NOW).unwrap_err();
    expect!["`mine` is locked, but what it is built against is not what it was"].assert_eq(&reason.to_string());
}

/// Why `current` is not what is locked as `before`, in an environment that needs `mine` from `location`.
#[track_caller]
fn changed(before: &Records, location: SourceLocation, current: &Records, expected: Expect) {
    let (workspace, description) = needing_mine(location);
    let file = locked(&lock(&workspace, &description, before), &workspace);
    let reason = super::super::satisfies(&description, &file, current, NOW).unwrap_err();
    expected.assert_eq(&reason.to_string());
}

#[test]
fn a_locked_source_has_to_be_what_it_is_now() {
    let here = || SourceLocation::path("packages/mine");
    let (workspace, description) = needing_mine(here());
    let mine = || built("mine", path("packages/mine"), &["lib"]);
    let before = Records::with_sources(app(), shared([mine()]));
    let file = locked(&lock(&workspace, &description, &before), &workspace);
    let mut newer = mine();
    newer.record.version = "9.0".parse::<Version>().unwrap().into();
    newer.record.timestamp = Some(jiff::Timestamp::UNIX_EPOCH.into());
    let current = offered([newer, built("unused", path("packages/unused"), &[])]);
    let records = super::super::satisfies(&description, &file, &current, NOW).unwrap();
    assert_eq!(records.sources(), &current.sources()[..1], "versions are those of now");
    assert_eq!(records.len(), 4);

    changed(
        &before,
        here(),
        &Records::default(),
        expect!["`mine` is locked as a source, but is wanted from a channel"],
    );
    let with = |change: fn(&mut SourceRecord)| {
        let mut record = mine();
        change(&mut record);
        record
    };
    for (change, expected) in [
        (
            (|record: &mut SourceRecord| record.record.depends.push("base".to_owned())) as fn(&mut SourceRecord),
            expect!["`mine` is locked, but its metadata is not what it was"],
        ),
        (
            |record| record.manifest = path("packages/moved"),
            expect!["`mine` is locked, but the place of its manifest is not what it was"],
        ),
        (
            |record| record.build_source = Some(path("src")),
            expect!["`mine` is locked, but the place of its sources is not what it was"],
        ),
        (
            |record| drop(record.sources.insert("lib".to_owned(), SourceLocation::path("../lib"))),
            expect!["`mine` is locked, but the place of what it needs is not what it was"],
        ),
        (
            |record| record.build = Records::new(vec![super::record("compiler", "8", &[])]),
            expect!["`mine` is locked, but what it is built with is not what it was"],
        ),
        (
            |record| record.host = Records::with_sources(vec![], shared([built("other", path("other"), &[])])),
            expect!["`mine` is locked, but what it is built against is not what it was"],
        ),
        (
            |record| drop(record.variants.insert("python".to_owned(), VariantValue::String("3.13".to_owned()))),
            expect!["`mine` is locked with no variant, which is not what its source makes of it now"],
        ),
    ] {
        changed(&before, here(), &offered([with(change)]), expected);
    }
    let twice = offered([with(|_| {}), with(|record| record.record.build_number = 3)]);
    changed(
        &before,
        here(),
        &twice,
        expect!["`mine` is locked, and its source makes several of it that cannot be told apart"],
    );
}

#[test]
fn what_is_needed_from_source_has_to_be_locked_so_and_from_there() {
    let here = || SourceLocation::path("packages/mine");
    let mine = || built("mine", path("packages/mine"), &[]);
    let current = offered([mine()]);
    changed(
        &Records::new(app()),
        here(),
        &current,
        expect!["`mine` from source at packages/mine is not locked, and the manifest needs it"],
    );
    let mut from_channel = app();
    from_channel.push(record("mine", "1.0", &[]));
    changed(
        &Records::new(from_channel),
        here(),
        &current,
        expect!["`mine` is locked as a package of a channel, but is wanted from source"],
    );
    let before = Records::with_sources(app(), shared([mine()]));
    changed(
        &before,
        SourceLocation::path("packages/moved"),
        &current,
        expect!["`mine` is wanted from source at packages/moved, and is locked from packages/mine"],
    );
    let needy = offered([built("mine", path("packages/mine"), &["missing >=2"])]);
    changed(
        &Records::with_sources(app(), needy.sources().to_vec()),
        here(),
        &needy,
        expect!["no locked package is `missing >=2`, which `mine 1.0 h0_0` needs"],
    );
    let (workspace, mut description) = needing_mine(here());
    let file = locked(&lock(&workspace, &description, &before), &workspace);
    description.needs.sources[0].spec = "mine >=2".to_owned();
    let reason = super::super::satisfies(&description, &file, &current, NOW).unwrap_err();
    expect!["no locked package is `mine >=2`, which the manifest needs (`mine 1.0 h0_0` is locked)"]
        .assert_eq(&reason.to_string());
    description.needs.sources.clear();
    let reason = super::super::satisfies(&description, &file, &current, NOW).unwrap_err();
    expect!["nothing needs the locked packages mine"].assert_eq(&reason.to_string());
}

#[test]
fn what_a_dependency_could_have_from_source_is_not_taken_from_a_channel() {
    let here = || SourceLocation::path("packages/mine");
    let lib = || built("lib", path("packages/lib"), &["base"]);
    let mine = || built("mine", path("packages/mine"), &["lib"]);
    let current = offered([lib(), mine()]);
    let before = Records::with_sources(app(), shared([mine()]));
    changed(&before, here(), &current, expect!["`lib` is locked as a package of a channel, but is wanted from source"]);
    let (workspace, description) = needing_mine(here());
    let mut newer = lib();
    newer.record.version = "2.5".parse::<Version>().unwrap().into();
    let current = offered([newer, mine()]);
    let binary = app().into_iter().filter(|record| record.package_record.name.as_normalized() != "lib").collect();
    let records = Records::with_sources(binary, current.sources().to_vec());
    let file = locked(&lock(&workspace, &description, &records), &workspace);
    assert_eq!(super::super::satisfies(&description, &file, &current, NOW).unwrap(), records);
}

/// What a lock file says of packages that are built, as it is handed in.
fn locked_as(records: impl IntoIterator<Item = SourceRecord>) -> Vec<Arc<LockedSource>> {
    records.into_iter().map(|record| source_of(&record).at_hand().unwrap()).collect()
}

/// A name whose value is not at hand.
fn lost(record: SourceRecord) -> Interned<SourceRecord> {
    serde_json::from_str(&serde_json::to_string(&named(record)).unwrap()).unwrap()
}

#[test]
fn unchecked_a_locked_source_is_what_is_offered_of_its_name_and_variant_whatever_else_is_locked_of_it() {
    let variant = |python: &str, depends: &[&str]| {
        let mut record = built("mine", path("packages/mine"), depends);
        record.variants.insert("python".to_owned(), VariantValue::String(python.to_owned()));
        record
    };
    let mut now = variant("3.13", &["nothing has this"]);
    now.manifest = path("packages/moved");
    now.build = Records::new(vec![record("compiler", "8", &[])]);
    let current = offered([built("inner", path("inner"), &[]), variant("3.12", &[]), now]);
    let locked = locked_as([variant("3.13", &[])]);
    let records = unchecked(&app(), &locked, &current).unwrap();
    assert_eq!(records, Records::with_sources(app(), current.sources()[2..].to_vec()), "archives are taken as locked");
    assert_eq!(unchecked(&app(), &[], &current), Some(Records::new(app())), "what is not locked is not taken");

    for gone in [variant("3.14", &[]), built("mine", path("packages/mine"), &[]), built("other", path("other"), &[])] {
        let mut all = locked.clone();
        all.extend(locked_as([gone]));
        assert_eq!(unchecked(&app(), &all, &current), None, "one that is not offered any more spoils all");
    }
    let some_lost = [current.sources()[2].clone(), lost(built("unused", path("unused"), &[]))];
    assert_eq!(unchecked(&app(), &locked, &Records::with_sources(vec![], some_lost.to_vec())), None);
}

#[test]
fn unchecked_what_is_offered_at_the_locked_place_goes_before_what_is_offered_first() {
    let mine = |place: &str| built("mine", path(place), &[]);
    let unchecked = |locked: &str, current: [&str; 3]| {
        let records = unchecked(&[], &locked_as([mine(locked)]), &offered(current.map(mine))).unwrap();
        let [taken] = records.sources() else { panic!("it is one: {records:?}") };
        taken.at_hand().unwrap().manifest.to_string()
    };
    assert_eq!(unchecked("b", ["a", "b", "c"]), "b");
    assert_eq!(unchecked("b", ["b", "c", "a"]), "b");
    assert_eq!(unchecked("b", ["c", "a", "b"]), "b");
    assert_eq!(unchecked("elsewhere", ["c", "a", "b"]), "c");
}

#[test]
fn what_is_locked_is_kept_as_it_is_now_only_if_that_is_all_that_is_needed_and_nothing_else() {
    let (workspace, description) = needing_mine(SourceLocation::path("packages/mine"));
    let mine = |version: &str, depends: &[&str]| {
        let mut mine = built("mine", path("packages/mine"), depends);
        mine.record.version = version.parse::<Version>().unwrap().into();
        mine
    };
    let locked = locked_as([mine("1.0", &["gone"])]);
    let kept = |change: fn(&mut SolveDescription), binary: &[RepoDataRecord], current: &Records| {
        let mut needs = description.needs.clone();
        change(&mut needs);
        kept(&needs, binary, &locked, current, workspace.root())
    };
    let current = offered([built("unused", path("unused"), &[]), mine("2.0", &["lib >=2"])]);
    let all = Records::with_sources(app(), current.sources()[1..].to_vec());
    assert_eq!(kept(|_| {}, &app(), &current), Some(all.clone()), "what was locked of it makes no difference");
    assert_eq!(kept(|needs| needs.sources[0].spec = "mine >=2".to_owned(), &app(), &current), Some(all));

    assert_eq!(kept(|needs| needs.sources[0].spec = "mine <2".to_owned(), &app(), &current), None);
    assert_eq!(kept(|needs| needs.sources[0].location = SourceLocation::path("moved"), &app(), &current), None);
    assert_eq!(kept(|needs| needs.sources.clear(), &app(), &current), None, "nothing needs it");
    assert_eq!(kept(|needs| needs.requirements.clear(), &app(), &current), None, "nothing needs the archives");
    let more_needed = |needs: &mut SolveDescription| {
        needs.sources.push(requirement("unused", SourceLocation::path("unused")));
    };
    assert_eq!(kept(more_needed, &app(), &current), None, "another source is needed");
    let limited = |needs: &mut SolveDescription| {
        let (name, spec) = ("mine".to_owned(), "mine <2".to_owned());
        needs.constraints = vec![Requirement { name, spec, channel: None, archive: None }];
    };
    assert_eq!(kept(limited, &app(), &current), None, "a limit is broken");
    assert_eq!(kept(|_| {}, &app()[..2], &current), None, "an archive is missing");
    let mut more = app();
    more.push(record("more", "1", &[]));
    assert_eq!(kept(|_| {}, &more, &current), None, "nothing needs one of the archives");
    let needy = offered([mine("2.0", &["gone"])]);
    assert_eq!(kept(|_| {}, &app(), &needy), None, "what it needs now is not there");
    let from_source = offered([built("lib", path("lib"), &[]), mine("2.0", &[])]);
    assert_eq!(kept(|_| {}, &app(), &from_source), None, "`lib` could be had from source");
    assert_eq!(kept(|_| {}, &app(), &offered([])), None, "it is not offered any more");
}

#[test]
fn an_environment_of_a_group_takes_what_it_reaches_through_sources() {
    let (workspace, mut description) = needing_mine(SourceLocation::path("packages/mine"));
    let mine = built("mine", path("packages/mine"), &["inner"]);
    let inner = built("inner", path("packages/inner"), &["base"]);
    let unused = built("unused", path("packages/unused"), &[]);
    let solved = Records::with_sources(app(), shared([inner, mine, unused]));
    let names = |records: &Records| {
        let binary = records.as_slice().iter().map(|record| record.package_record.name.as_normalized().to_owned());
        binary
            .chain(records.sources().iter().map(|record| record.at_hand().unwrap().name().to_owned()))
            .collect::<Vec<_>>()
    };
    let taken = crate::workspace::reachable(&solved, &description.needs, workspace.root());
    assert_eq!(names(&taken), ["app", "base", "lib", "inner", "mine"]);
    description.needs.requirements.clear();
    let taken = crate::workspace::reachable(&solved, &description.needs, workspace.root());
    assert_eq!(names(&taken), ["base", "inner", "mine"]);
}

#[test]
fn environments_solved_together_have_to_agree_about_sources() {
    let workspace = workspace(GROUP);
    let describe = |name: &str| {
        let mut description = workspace.describe(name, "linux-64").unwrap();
        description.needs.requirements.clear();
        description.needs.sources = vec![requirement("mine", SourceLocation::path("packages/mine"))];
        description
    };
    let variant = |python: &str| {
        let mut record = built("mine", path("packages/mine"), &[]);
        record.variants.insert("python".to_owned(), VariantValue::String(python.to_owned()));
        record
    };
    let (default, test) = (describe("default"), describe("test"));
    let lock = |one: &SourceRecord, other: &SourceRecord| {
        let packages = |record: &SourceRecord| LockedPackages { binary: vec![], source: vec![source_of(record)] };
        let solved = [
            Solved { description: &default, packages: &packages(one) },
            Solved { description: &test, packages: &packages(other) },
        ];
        locked(&render(&workspace, None, &solved).unwrap(), &workspace)
    };
    let (one, other) = (variant("3.12"), variant("3.13"));
    let current = offered([one.clone(), other.clone()]);
    let together =
        |file: &LockedFile| super::super::satisfies_together(&[default.clone(), test.clone()], file, &current, NOW);
    assert_eq!(together(&lock(&one, &one)).unwrap().len(), 2);
    let reason = together(&lock(&one, &other)).unwrap_err();
    expect!["`mine` is locked differently in the environments `default` and `test`, which are solved together"]
        .assert_eq(&reason.to_string());
}

#[test]
fn two_packages_that_differ_in_what_their_name_does_not_tell_are_both_written() {
    let workspace = workspace(&with("[environments]\nci = []\n"));
    let packages = |license: &str| {
        let mut mine = built("mine", path("packages/mine"), &[]);
        mine.record.license = Some(license.to_owned());
        LockedPackages::new(app(), vec![source_of(&mine)])
    };
    let (default, ci) =
        (workspace.describe("default", "linux-64").unwrap(), workspace.describe("ci", "linux-64").unwrap());
    let (one, other) = (packages("MIT"), packages("Apache-2.0"));
    let solved = [Solved { description: &default, packages: &one }, Solved { description: &ci, packages: &other }];
    let text = render(&workspace, None, &solved).unwrap();
    let file = locked(&text, &workspace);
    let read = |description: &EnvironmentDescription| {
        file.packages_of(&description.environment, &description.platform()).unwrap().unwrap()
    };
    assert_same(&read(&default), &one);
    assert_same(&read(&ci), &other);
    assert_eq!(text.matches("\n- conda: https://conda.example/main/noarch/base-1-h0_0.conda").count(), 1);
    assert_eq!(render(&workspace, None, &solved).unwrap(), text);
}

#[test]
fn a_solve_of_one_environment_leaves_the_sources_of_others() {
    let workspace = workspace(&with("[environments]\nci = []\n"));
    let describe = |name: &str| workspace.describe(name, "linux-64").unwrap();
    let packages = LockedPackages::new(app(), vec![source_of(&everything())]);
    let solve = |description| Solved { description, packages: &packages };
    let (default, ci) = (describe("default"), describe("ci"));
    let file = locked(&render(&workspace, None, &[solve(&default), solve(&ci)]).unwrap(), &workspace);
    let moved = LockedPackages::new(app(), vec![source_of(&built("mine", git(GitReference::DefaultBranch, ""), &[]))]);
    let solved = [Solved { description: &ci, packages: &moved }];
    let file = locked(&render(&workspace, Some(&file), &solved).unwrap(), &workspace);
    let read = |description: &EnvironmentDescription| {
        file.packages_of(&description.environment, &description.platform()).unwrap().unwrap()
    };
    assert_same(&read(&default), &packages);
    assert_same(&read(&ci), &moved);
}

#[test]
fn a_package_that_cannot_be_said_is_not_written() {
    let (workspace, description) = needing_mine(SourceLocation::path("packages/mine"));
    let refused = |mine: SourceRecord| {
        let packages = LockedPackages { binary: app(), source: vec![source_of(&mine)] };
        let error = render(&workspace, None, &[Solved { description: &description, packages: &packages }]).unwrap_err();
        let RenderError::Source { package, source } = error else { panic!("it is about a source: {error}") };
        format!("{package}: {source}")
    };
    let mut mine = built("mine", path("../../mine"), &[]);
    mine.build_source = Some(path("../src"));
    expect!["mine: there is no way from `../../mine` to `../src`"].assert_eq(&refused(mine));
    let mut mine = built("mine", path("packages/mine"), &[]);
    let location = SourceLocation::Git {
        url: "nowhere".to_owned(),
        reference: GitReference::DefaultBranch,
        subdirectory: String::new(),
        lfs: None,
    };
    mine.sources.insert("other".to_owned(), location);
    expect!["mine: `nowhere` is not a URL"].assert_eq(&refused(mine));
}

#[test]
fn hints_for_sources_are_those_of_all_environments_of_a_unit() {
    let workspace = workspace(GROUP);
    let describe = |name: &str| workspace.describe(name, "linux-64").unwrap();
    let source = |name: &str| source_of(&built(name, path(name), &[]));
    let packages =
        |names: &[&str]| LockedPackages { binary: app(), source: names.iter().map(|name| source(name)).collect() };
    let (default, test) = (describe("default"), describe("test"));
    let (one, other) = (packages(&["b", "a"]), packages(&["c", "a"]));
    let solved = [Solved { description: &default, packages: &one }, Solved { description: &test, packages: &other }];
    let file = locked(&render(&workspace, None, &solved).unwrap(), &workspace);
    let unit = workspace.solve_unit("default", "linux-64").unwrap();
    assert_eq!(locked_sources(&file, &unit), [source("a"), source("b"), source("c")]);
}

fn some_path() -> impl Strategy<Value = String> {
    let part = "[a-z.][a-z:@#?%+&= \\[\\]é]{0,5}[a-z]";
    (prop::sample::select(vec!["", "", "", "../", "../../", "/", "~/", "C:/"]), prop::collection::vec(part, 0..4))
        .prop_map(|(prefix, parts)| crate::source::normalized(&format!("{prefix}{}", parts.join("/"))))
}

fn some_directory() -> impl Strategy<Value = String> {
    prop::collection::vec("[a-z][a-z:@#?%+&= é]{0,5}[a-z]", 0..3).prop_map(|parts| parts.join("/"))
}

fn some_url() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "https://git.example/mine.git",
        "https://git.example/a%20b/",
        "https://git.example/mine?with=this&or%20=that",
        "ssh://git@git.example/mine",
        "http://git.example:8080/mine",
        "file:///repositories/mine",
        "file:///a%23b.tar.gz",
    ])
    .prop_map(str::to_owned)
}

fn some_reference() -> impl Strategy<Value = GitReference> {
    prop_oneof![
        Just(GitReference::DefaultBranch),
        "[a-z/#&=+ ]{1,8}".prop_map(GitReference::Branch),
        "[a-z0-9./]{1,8}".prop_map(GitReference::Tag),
        "[0-9a-f]{7,40}".prop_map(GitReference::Rev),
    ]
}

fn some_pin() -> impl Strategy<Value = PinnedSource> {
    let lfs = prop::option::of(any::<bool>());
    prop_oneof![
        some_path().prop_map(|path| PinnedSource::Path { path }),
        (some_url(), "[0-9a-f]{40}", some_reference(), some_directory(), lfs).prop_map(
            |(url, commit, reference, subdirectory, lfs)| PinnedSource::Git {
                url,
                commit,
                reference,
                subdirectory,
                lfs
            }
        ),
        (some_url(), "[0-9a-f]{64}", prop::option::of("[0-9a-f]{32}"), some_directory())
            .prop_map(|(url, sha256, md5, subdirectory)| PinnedSource::Url { url, sha256, md5, subdirectory }),
    ]
}

/// The pin that stays of one when it is the place of sources.
fn with_whole_revision(pin: PinnedSource) -> PinnedSource {
    match pin {
        PinnedSource::Git { url, commit, reference: GitReference::Rev(_), subdirectory, lfs } => {
            PinnedSource::Git { url, reference: GitReference::Rev(commit.clone()), commit, subdirectory, lfs }
        }
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_place_of_a_manifest_is_what_is_read_again(pin in some_pin()) {
        let written = written_pin(&pin).unwrap();
        prop_assert_eq!(&read_pin(&written).unwrap(), &pin);
        // In a file it is the end of a name.
        let name = SourceIdentifier::new(PackageName::new_unchecked("mine"), "12345678", written);
        let again: SourceIdentifier = name.to_string().parse().unwrap();
        prop_assert_eq!(&read_pin(again.location()).unwrap(), &pin, "{}", name);
    }

    #[test]
    fn the_place_of_sources_is_what_is_read_again(manifest in some_pin(), build in some_pin(), beside in some_directory()) {
        let moved = match manifest.clone() {
            PinnedSource::Git { url, commit, lfs, .. } => {
                let reference = GitReference::Rev(commit.clone());
                PinnedSource::Git { url, commit, reference, subdirectory: beside, lfs }
            }
            PinnedSource::Url { url, sha256, md5, .. } => PinnedSource::Url { url, sha256, md5, subdirectory: beside },
            PinnedSource::Path { .. } => path(&crate::source::normalized(&beside)),
        };
        for build in [build, moved] {
            match written_build_source(&build, &manifest) {
                Ok(written) => {
                    let read = read_build_source(&written, &manifest).unwrap();
                    prop_assert_eq!(read, with_whole_revision(build), "{:?}", written);
                }
                Err(error) => prop_assert!(matches!(error, SourceFormError::NoWay { .. }), "{}", error),
            }
        }
    }

    #[test]
    fn the_place_of_a_dependency_is_what_is_read_again(pin in some_pin(), hashed in any::<bool>()) {
        let location = match pin.location() {
            SourceLocation::Url { url, subdirectory, .. } if !hashed => {
                SourceLocation::Url { url, sha256: None, md5: None, subdirectory }
            }
            location => location,
        };
        prop_assert_eq!(read_location(&written_location(&location).unwrap()).unwrap(), location);
    }

    #[test]
    fn whatever_is_locked_of_sources_is_read_again(
        pins in prop::collection::vec((some_pin(), some_pin(), some_pin()), 1..5),
        inner in prop::collection::vec(some_pin(), 0..3),
    ) {
        let workspace = workspace(MANIFEST);
        let description = workspace.describe("default", "linux-64").unwrap();
        let nested = |place: usize| {
            let inner = inner.iter().enumerate().filter(|(index, _)| (place + index).is_multiple_of(2));
            let inner = inner.map(|(index, pin)| built(&format!("inner{index}"), pin.clone(), &["base"]));
            Records::with_sources(vec![record("base", "1", &[])], shared(inner))
        };
        let mine: Vec<Interned<LockedSource>> = pins
            .into_iter()
            .enumerate()
            .map(|(index, (manifest, build, needed))| {
                let mut mine = built(&format!("mine{index}"), manifest, &["base"]);
                mine.build_source = Some(with_whole_revision(build))
                    .filter(|build| written_build_source(build, &mine.manifest).is_ok());
                mine.sources.insert("needed".to_owned(), needed.location());
                mine.variants.insert("a".to_owned(), VariantValue::Bool(true));
                mine.build = nested(index);
                mine.host = nested(index + 1);
                source_of(&mine)
            })
            .collect();
        let packages = LockedPackages::new(app(), mine);
        let text = render(&workspace, None, &[Solved { description: &description, packages: &packages }]).unwrap();
        let file = locked(&text, &workspace);
        let read = file.packages_of("default", &description.platform()).unwrap().unwrap();
        prop_assert_eq!(in_full(&read), in_full(&packages), "{}", text);
        prop_assert_eq!(&read, &packages, "{}", text);
        prop_assert_eq!(render(&workspace, Some(&file), &[]).unwrap(), text);
    }
}

#[test]
fn places_are_written_in_this_way() {
    let written = |pin: &PinnedSource| written_pin(pin).unwrap().to_string();
    let reference = GitReference::Branch("a/b".to_owned());
    expect![
        "git+https://git.example/mine.git?subdirectory=p%2Fq&branch=a%2Fb#0123456789abcdef0123456789abcdef01234567"
    ]
    .assert_eq(&written(&git(reference, "p/q")));
    expect!["https://host.example/mine.tar.gz#sha256=a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447&subdirectory=p%2Fq"].assert_eq(&written(&archive("p/q")));
    let PinnedSource::Url { sha256, subdirectory, .. } = archive("") else { panic!("it is an archive") };
    let (url, md5) = ("file:///archives/mine.zip".to_owned(), Some(MD5.to_owned()));
    expect!["url+file:///archives/mine.zip#sha256=a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447&md5=6f5902ac237024bdd0c176cb93063dc4"].assert_eq(&written(&PinnedSource::Url { url, sha256, md5, subdirectory }));
    expect!["./ab:b/c"].assert_eq(&written(&path("ab:b/c")));
    let secret: UrlOrPath = format!("git+https://me:secret@git.example/mine#{COMMIT}").parse().unwrap();
    let PinnedSource::Git { url, .. } = read_pin(&secret).unwrap() else { panic!("it is git") };
    assert_eq!(url, "https://git.example/mine");
}
