//! How features, targets and groups make what an environment needs.

use expect_test::expect;
use rattler_lock::options::{ChannelPriority, SolveStrategy};

use super::*;

#[track_caller]
fn channels(workspace: &Workspace, environment: &str) -> Vec<String> {
    let description = workspace.describe(environment, "linux-64").unwrap();
    description.needs.channels.iter().map(ToString::to_string).collect()
}

#[test]
fn a_manifest_becomes_plain_data() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main", "./local"]
platforms = ["linux-64", "osx-arm64"]
exclude-newer = "7d"

[dependencies]
python = "3.11.*"
numpy = "*"
tool = { version = ">=2", channel = "./local", build = "*cuda*" }

[constraints]
openssl = ">=3"
"#,
    );
    let description = workspace.describe("default", "linux-64").unwrap();
    expect![[r#"
        {
          "environment": "default",
          "platform": "linux-64",
          "solve_group": null,
          "has_pypi": false,
          "needs": {
            "subdir": "linux-64",
            "virtual_packages": [
              "__archspec=0=x86_64",
              "__glibc=2.28=0",
              "__linux=4.18=0",
              "__unix=0=0"
            ],
            "channels": [
              "https://conda.example/main/",
              "./local"
            ],
            "channel_priority": "strict",
            "strategy": "highest",
            "requirements": [
              {
                "name": "numpy",
                "spec": "numpy"
              },
              {
                "name": "python",
                "spec": "python[version=\"3.11.*\"]"
              },
              {
                "name": "tool",
                "spec": "tool[version=\">=2\",build=\"*cuda*\"]",
                "channel": "./local"
              }
            ],
            "constraints": [
              {
                "name": "openssl",
                "spec": "openssl[version=\">=3\"]"
              }
            ],
            "exclude_newer": {
              "cutoff": "7days",
              "packages": [],
              "channels": [],
              "exemptions": []
            }
          }
        }"#]]
    .assert_eq(&serde_json::to_string_pretty(&description).unwrap());
}

#[test]
fn descriptions_survive_messagepack() {
    let workspace = parse(
        r#"
[workspace]
channels = ["./local", { channel = "https://conda.example/slow", exclude-newer = "2026-01-01" }]
platforms = [{ platform = "linux-64", cuda = "12", archspec = "x86_64_v3" }]
channel-priority = "disabled"
solve-strategy = "lowest-direct"
exclude-newer = { cutoff = "1h30m", exemptions = { fix = ">=1.2" } }
[exclude-newer]
fast = "0d"
[dependencies]
a = { version = ">=1,<2|3.*", build-number = ">=3", license = "MIT", subdir = "noarch", extras = ["x"], flags = ["f"] }
b = { path = "archives/b-1.0-0.conda", sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447" }
c = { url = "https://conda.example/other/noarch/c-1.0-0.tar.bz2", md5 = "6f5902ac237024bdd0c176cb93063dc4" }
[constraints]
d = "<9"
[environments]
x = { features = [], solve-group = "g" }
"#,
    );
    let platform = workspace.environment("x").unwrap().platforms[0].name.clone();
    let description = workspace.describe("x", &platform).unwrap();
    let bytes = rmp_serde::to_vec_named(&description).unwrap();
    assert_eq!(rmp_serde::from_slice::<EnvironmentDescription>(&bytes).unwrap(), description);
    let unit = workspace.solve_unit("x", &platform).unwrap();
    let bytes = rmp_serde::to_vec_named(&unit).unwrap();
    assert_eq!(rmp_serde::from_slice::<SolveUnit>(&bytes).unwrap(), unit);
    let specs = unit.needs.match_specs(workspace.root()).unwrap();
    expect![[r#"
        a >=1,<2|3.*[extras=[x], flags=[f], build_number=">=3", license="MIT", subdir="noarch"]
        b[sha256="a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447", url="file:///projects/app/archives/b-1.0-0.conda"]
        c[md5="6f5902ac237024bdd0c176cb93063dc4", url="https://conda.example/other/noarch/c-1.0-0.tar.bz2"]
    "#]].assert_eq(&specs.iter().map(|spec| format!("{spec}\n")).collect::<String>());
}

#[test]
fn the_same_workspace_elsewhere_needs_the_same() {
    let text = r#"
[workspace]
channels = ["./local", "main"]
platforms = ["linux-64"]
[dependencies]
a = { version = "*", channel = "./local" }
b = { path = "./archives/b-1.0-0.conda" }
"#;
    let here = parse_at("/projects/app/pixi.toml", text).unwrap().describe("default", "linux-64").unwrap();
    let there = parse_at("/elsewhere/else where/pixi.toml", text).unwrap().describe("default", "linux-64").unwrap();
    assert_eq!(here, there);
    assert_eq!(rmp_serde::to_vec_named(&here).unwrap(), rmp_serde::to_vec_named(&there).unwrap());
}

#[test]
fn what_does_not_concern_packages_does_not_change_what_is_needed() {
    let before = small("[dependencies]\na = \"1.*\"\nb = \"*\"\n").describe("default", "linux-64").unwrap();
    for text in [
        "description = \"words\"\nversion = \"1.2\"\n[dependencies]\nb = \"*\"\na = \"1.*\"\n[tasks]\nrun = \"a\"\n",
        "# remark\n[dependencies]\nA = \"1.*\" # remark\nB = {}\n[activation]\nscripts = [\"x.sh\"]\n",
        "[dependencies]\na = { version = \"1.*\" }\nb = { version = \"*\" }\n[feature.unused.dependencies]\nz = \"*\"\n",
        "[target.unix.dependencies]\na = \"1.*\"\n[dependencies]\nb = \"*\"\n[target.linux-64.tasks]\nx = \"y\"\n",
    ] {
        assert_eq!(small(text).describe("default", "linux-64").unwrap(), before, "{text}");
    }
}

#[test]
fn features_add_up_and_default_comes_last() {
    let workspace = small(
        r#"
[dependencies]
python = ">=3.9"
[feature.new.dependencies]
python = "3.12.*"
extra = "*"
[environments]
new = ["new"]
bare = { features = ["new"], no-default-feature = true }
"#,
    );
    assert_eq!(workspace.environment("new").unwrap().features, ["new", "default"]);
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["python >=3.9"]);
    assert_eq!(requirements(&workspace, "new", "linux-64"), ["extra", "python 3.12.*", "python >=3.9"]);
    assert_eq!(requirements(&workspace, "bare", "linux-64"), ["extra", "python 3.12.*"]);
}

#[test]
fn within_a_feature_the_last_matching_target_replaces() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main"]
platforms = ["linux-64", "linux-aarch64", "osx-64", "win-64"]
[dependencies]
python = "3.8.*"
[target.unix.dependencies]
python = "3.9.*"
[target.linux.dependencies]
python = "3.10.*"
[target.linux-64.dependencies]
python = "3.11.*"
[target."*-aarch64".constraints]
cmake = "<4"
[constraints]
cmake = "<5"
"#,
    );
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["python 3.11.*"]);
    assert_eq!(requirements(&workspace, "default", "linux-aarch64"), ["python 3.10.*"]);
    assert_eq!(requirements(&workspace, "default", "osx-64"), ["python 3.9.*"]);
    assert_eq!(requirements(&workspace, "default", "win-64"), ["python 3.8.*"]);
    let constraints = |platform: &str| {
        let description = workspace.describe("default", platform).unwrap();
        description.needs.constraints.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(constraints("linux-64"), ["cmake <5"]);
    assert_eq!(constraints("linux-aarch64"), ["cmake <4"]);
}

#[test]
fn build_goes_before_host_and_host_before_run() {
    let workspace = small(
        r#"
[dependencies]
a = "1"
b = "1"
c = "1"
[host-dependencies]
b = "2"
c = "2"
[build-dependencies]
c = "3"
"#,
    );
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["a ==1", "b ==2", "c ==3"]);
}

#[test]
fn channels_are_united_by_priority_and_feature_order() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main", { channel = "last", priority = -5 }]
platforms = ["linux-64"]
[feature.cuda]
channels = ["nvidia", { channel = "torch", priority = -1 }, { channel = "first", priority = 9 }]
[feature.plain.dependencies]
[environments]
cuda = ["cuda"]
only = { features = ["cuda"], no-default-feature = true }
plain = { features = ["plain"], no-default-feature = true }
"#,
    );
    let short = |environment| {
        let channels = channels(&workspace, environment);
        channels.iter().map(|url| url.trim_start_matches("https://conda.example/").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(short("default"), ["main/", "last/"]);
    assert_eq!(short("cuda"), ["first/", "nvidia/", "main/", "torch/", "last/"]);
    assert_eq!(short("only"), ["first/", "nvidia/", "torch/"]);
    assert_eq!(short("plain"), ["main/", "last/"], "a feature without channels has those of the workspace");
}

#[test]
fn options_come_from_the_first_feature_that_has_them() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main"]
platforms = ["linux-64"]
solve-strategy = "lowest"
[feature.one]
solve-strategy = "lowest-direct"
[feature.two]
channel-priority = "disabled"
[environments]
one = ["one", "two"]
two = ["two"]
bare = { features = ["two"], no-default-feature = true }
"#,
    );
    let strategy = |environment| workspace.describe(environment, "linux-64").unwrap().needs.strategy;
    assert_eq!(strategy("one"), SolveStrategy::LowestVersionDirect);
    assert_eq!(strategy("two"), SolveStrategy::LowestVersion);
    assert_eq!(strategy("bare"), SolveStrategy::Highest, "the workspace's options belong to the default feature");
    let priority = |environment| workspace.describe(environment, "linux-64").unwrap().needs.channel_priority;
    assert_eq!(priority("two"), ChannelPriority::Disabled);
    assert_eq!(priority("default"), ChannelPriority::Strict);
}

#[test]
fn an_environment_exists_where_all_its_features_do() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main"]
platforms = ["linux-64", "osx-64", "win-64"]
[feature.unix]
platforms = ["linux-64", "osx-64"]
[feature.exotic]
platforms = ["linux-aarch64", "osx-64"]
[environments]
unix = ["unix"]
both = ["unix", "exotic"]
exotic = { features = ["exotic"], no-default-feature = true }
nothing = { no-default-feature = true }
"#,
    );
    let platforms = |name: &str| {
        let environment = workspace.environment(name).unwrap();
        environment.platforms.iter().map(|platform| platform.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(platforms("default"), ["linux-64", "osx-64", "win-64"]);
    assert_eq!(platforms("unix"), ["linux-64", "osx-64"]);
    assert_eq!(platforms("both"), ["osx-64"]);
    assert_eq!(platforms("exotic"), ["osx-64", "linux-aarch64"], "a feature may name a further subdir");
    assert_eq!(platforms("nothing"), ["linux-64", "osx-64", "win-64"]);
    assert_eq!(requirements(&workspace, "nothing", "osx-64"), [""; 0]);
}

#[test]
fn system_requirements_are_united_and_apply_where_they_make_sense() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main"]
platforms = ["linux-64", "osx-arm64", "win-64"]
[system-requirements]
linux = 5.10
libc = { family = "glibc", version = "2.31" }
macos = "14.0"
[feature.gpu.system-requirements]
cuda = "12"
libc = "2.35"
[feature.old.system-requirements]
cuda = "11"
[environments]
gpu = ["gpu", "old"]
"#,
    );
    let packages = |environment, platform| {
        let description = workspace.describe(environment, platform).unwrap();
        (description.platform.clone(), description.needs.virtual_packages.join(" "))
    };
    expect![[r#"
        [
            (
                "linux-64-glibc-2-31-linux-5-10",
                "__archspec=0=x86_64 __glibc=2.31=0 __linux=5.10=0 __unix=0=0",
            ),
            (
                "osx-arm64-macos-14-0",
                "__archspec=0=m1 __osx=14.0=0 __unix=0=0",
            ),
            (
                "win-64",
                "__archspec=0=x86_64 __win=0=0",
            ),
            (
                "linux-64-cuda-12-glibc-2-35-linux-5-10",
                "__archspec=0=x86_64 __cuda=12=0 __glibc=2.35=0 __linux=5.10=0 __unix=0=0",
            ),
            (
                "osx-arm64-cuda-12-macos-14-0",
                "__archspec=0=m1 __cuda=12=0 __osx=14.0=0 __unix=0=0",
            ),
        ]
    "#]]
    .assert_debug_eq(&[
        packages("default", "linux-64"),
        packages("default", "osx-arm64"),
        packages("default", "win-64"),
        packages("gpu", "linux-64"),
        packages("gpu", "osx-arm64"),
    ]);
}

#[test]
fn platforms_with_virtual_packages_are_told_apart_by_name() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main"]
platforms = [
  "linux-64",
  { name = "gpu-box", platform = "linux-64", cuda = { driver = "12.0", arch = "8.6" } },
  { platform = "osx-arm64", osx = "14.1" },
  { platform = "linux-aarch64", __site = "2=h1", amdgpu = "1" },
]
[feature.gpu]
platforms = ["gpu-box"]
[feature.mac]
platforms = ["osx-arm64"]
[target."gpu-*".dependencies]
cuda-toolkit = "*"
[target.linux-64.dependencies]
both = "*"
[environments]
gpu = ["gpu"]
mac = ["mac"]
"#,
    );
    let platforms = |name: &str| {
        let environment = workspace.environment(name).unwrap();
        environment.platforms.iter().map(|platform| platform.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        platforms("default"),
        ["linux-64", "gpu-box", "osx-arm64-macos-14-1", "linux-aarch64-amdgpu-1-site-2-h1"]
    );
    assert_eq!(platforms("gpu"), ["gpu-box"]);
    assert_eq!(platforms("mac"), ["osx-arm64-macos-14-1"], "a subdir stands for its platforms");
    assert_eq!(requirements(&workspace, "gpu", "gpu-box"), ["both", "cuda-toolkit"]);
    assert_eq!(requirements(&workspace, "gpu", "linux-64"), ["both", "cuda-toolkit"], "the only one of its subdir");
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["both"]);
    let gpu = workspace.describe("gpu", "gpu-box").unwrap();
    assert!(gpu.needs.virtual_packages.contains(&"__cuda_arch=8.6=0".to_owned()));
}

#[test]
fn a_solve_group_is_solved_at_once_and_each_environment_keeps_its_own() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main"]
platforms = ["linux-64", "osx-64"]
[dependencies]
base = "*"
[feature.test]
channels = ["testing"]
dependencies = { pytest = "*" }
system-requirements = { cuda = "12" }
[feature.linux]
platforms = ["linux-64"]
dependencies = { perf = "*" }
[environments]
default = { solve-group = "main" }
test = { features = ["test"], solve-group = "main" }
perf = { features = ["linux"], solve-group = "main" }
alone = ["test"]
"#,
    );
    let unit = workspace.solve_unit("default", "linux-64").unwrap();
    assert_eq!(unit.environments, ["default", "test", "perf"]);
    assert_eq!(unit.to_string(), "group main@linux-64-cuda-12");
    let names: Vec<_> = unit.needs.requirements.iter().map(|requirement| requirement.name.as_str()).collect();
    assert_eq!(names, ["base", "perf", "pytest"]);
    let on_mac = workspace.solve_unit("test", "osx-64").unwrap();
    assert_eq!(on_mac.environments, ["default", "test"]);

    let own = workspace.describe("perf", "linux-64").unwrap();
    assert_eq!(requirements(&workspace, "perf", "linux-64"), ["base", "perf"]);
    assert_eq!(own.needs.channels, unit.needs.channels, "channels are those of the group");
    assert_eq!(own.needs.virtual_packages, unit.needs.virtual_packages, "and so are virtual packages");
    assert_eq!(own.platform, unit.platform);

    let alone = workspace.solve_unit("alone", "linux-64").unwrap();
    assert_eq!(alone.environments, ["alone"]);
    assert_eq!(alone.to_string(), "alone@linux-64-cuda-12");
}

#[test]
fn cutoffs_are_kept_as_they_are_written() {
    let cutoff = |tables: &str| {
        let workspace = parse(&format!("[workspace]\nplatforms = [\"linux-64\"]\n{tables}"));
        workspace.describe("default", "linux-64").unwrap().needs.exclude_newer.map(|exclude| exclude.to_string())
    };
    let main = "channels = [\"main\"]\n";
    assert_eq!(cutoff(main), None);
    assert_eq!(cutoff(&format!("{main}exclude-newer = \"2023-11-03\"")).unwrap(), "2023-11-04T00:00:00Z");
    assert_eq!(cutoff(&format!("{main}exclude-newer = \"7d\"")).unwrap(), "7days");
    assert_eq!(
        cutoff(&format!("{main}exclude-newer = \"7d\"\n[exclude-newer]\nOpenSSL = \"0d\"")).unwrap(),
        "7days, openssl: 0s"
    );
    assert_eq!(
        cutoff("channels = [\"main\", { channel = \"./own\", exclude-newer = \"0d\" }]\nexclude-newer = \"7d\"")
            .unwrap(),
        "7days, ./own: 0s"
    );
    assert_eq!(
        cutoff(&format!("{main}exclude-newer = {{ cutoff = \"7d\", exemptions = {{ polars = \"1.43.1\" }} }}"))
            .unwrap(),
        "7days, not polars ==1.43.1"
    );
}

#[test]
fn environments_that_cannot_be_had_leave_the_others_alone() {
    let workspace = small(
        r#"
[dependencies]
fine = "*"
[feature.when.dependencies]
odd = { version = "*", when = "python <3.9" }
[feature.elsewhere.dependencies]
far = { version = "*", channel = "other" }
[environments]
when = ["when"]
elsewhere = ["elsewhere"]
grouped = { solve-group = "g" }
grouped-when = { features = ["when"], solve-group = "g" }
"#,
    );
    assert_eq!(warnings(&workspace), "");
    assert!(workspace.describe("default", "linux-64").is_ok());
    let error = workspace.describe("when", "linux-64").unwrap_err();
    assert!(matches!(error.kind(), ManifestErrorKind::UnhandledField { .. }));
    let error = workspace.describe("elsewhere", "linux-64").unwrap_err();
    assert!(matches!(error.kind(), ManifestErrorKind::ChannelNotListed { .. }));
    assert!(workspace.describe("grouped", "linux-64").is_ok());
    assert!(workspace.solve_unit("grouped", "linux-64").is_err(), "the group cannot be solved without all of it");
}

#[test]
fn the_default_environment_can_be_redefined() {
    let workspace = small("[feature.a.dependencies]\na = \"*\"\n[environments]\nother = []\ndefault = [\"a\"]\n");
    let names: Vec<_> = workspace.environments().map(|environment| environment.name.as_str()).collect();
    assert_eq!(names, ["other", "default"]);
    assert_eq!(requirements(&workspace, "default", "linux-64"), ["a"]);
    assert_eq!(workspace.name(), "app", "the directory gives the name");
}
