//! What manifests mean.

use std::path::Path;

use super::*;

#[track_caller]
fn parse(text: &str) -> Workspace {
    Workspace::parse(text, Path::new("/work/app/pixi.toml"), &options()).unwrap()
}

fn options() -> ManifestOptions {
    ManifestOptions { channel_alias: Some("https://conda.example".parse().unwrap()) }
}

#[test]
fn a_small_manifest_is_described() {
    let workspace = parse(
        r#"
[workspace]
channels = ["main", "./local"]
platforms = ["linux-64", "osx-arm64"]

[dependencies]
python = "3.11.*"
numpy = "*"

[target.osx.dependencies]
python = ">=3.12"
"#,
    );
    let linux = workspace.describe("default", "linux-64").unwrap();
    let text = serde_json::to_string_pretty(&linux).unwrap();
    expect_test::expect![[r#"
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
              }
            ],
            "constraints": [],
            "exclude_newer": null
          }
        }"#]].assert_eq(&text);
}
