//! What a package's manifest says to its build backend.

use expect_test::{Expect, expect};
use serde_json::Value;

use super::{errors::rendered, *};
use crate::source::{GitReference, SourceLocation};

const BACKEND: &str = "[package.build]\nbackend = { name = \"pixi-build-cmake\", version = \"0.3.*\" }\n";

fn root() -> WorkspaceRoot {
    WorkspaceRoot::new("/projects/app").unwrap()
}

fn pixi(text: &str) -> ManifestText<'_> {
    ManifestText { file_name: "pixi.toml", text }
}

fn pyproject(text: &str) -> ManifestText<'_> {
    ManifestText { file_name: "pyproject.toml", text }
}

/// Reads a package that is the only thing in its manifest.
fn alone(text: &str) -> Result<PackageManifest, ManifestError> {
    parse_package(pixi(text), None, &root(), ".", &options()).map(|package| package.expect("there is a package"))
}

/// Reads the manifest in `packages/own` of a workspace.
#[track_caller]
fn member(text: &str, workspace: &str) -> PackageManifest {
    parse_package(pixi(text), Some(pixi(workspace)), &root(), "packages/own", &options()).unwrap().unwrap()
}

#[track_caller]
fn with_backend(text: &str) -> PackageManifest {
    alone(&format!("[package]\nname = \"own\"\n{BACKEND}{text}")).unwrap()
}

#[track_caller]
fn model(package: &PackageManifest) -> Value {
    package.project_model.value().unwrap()
}

#[track_caller]
fn check_model(package: &PackageManifest, expected: Expect) {
    expected.assert_eq(&format!("{}\n", serde_json::to_string_pretty(&model(package)).unwrap()));
}

#[track_caller]
fn refused(text: &str, expected: Expect) {
    expected.assert_eq(&rendered(&alone(text).unwrap_err()));
}

#[track_caller]
fn refused_with_backend(text: &str, expected: Expect) {
    refused(&format!("[package]\nname = \"own\"\n{BACKEND}{text}"), expected);
}

#[test]
fn a_package_of_everything_is_said_in_the_form_of_the_protocol() {
    let text = r#"
[package]
name = "own"
version = "1.2.3"
description = "words"
authors = ["Somebody <somebody@conda.example>"]
license = "MIT"
license-file = "./LICENSE"
readme = "docs/../README.md"
homepage = "https://user:secret@conda.example/own"
repository = "https://conda.example/repository"
documentation = "https://conda.example/docs"

[package.build]
backend = { name = "pixi-build-cmake", version = "0.3.*" }
build-string-prefix = "mine"
build-number = 7
flags = ["gpu", "blas"]
secrets = ["TOKEN", "KEY", "TOKEN"]

[package.host-dependencies]
PyThon = "3.12.*"
table = { version = "~=1.2", build = "py34_0", build-number = ">=1", channel = "./own", subdir = "noarch", file-name = "t-1-0.conda", license = "MIT", license-family = "MIT", track-features = "x", extras = ["fast"], flags = ["gpu"] }
hashes = { md5 = "6f5902ac237024bdd0c176cb93063dc4", sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447" }
pinned = { pin-compatible = true }

[package.build-dependencies]
cmake = "*"
archive = { path = "x/archive-1.0-0.conda" }
"if(host_platform != build_platform)" = { cross = "1" }

[package.run-dependencies]
sibling = { path = "../sibling", version = ">=1", extras = ["x"] }
theirs = { git = "git+https://me:secret@git.example/theirs.git", tag = "v1", subdirectory = "a/b", build = "h*" }
default-branch = { git = "ssh://git@git.example/x" }
sources = { url = "https://conda.example/x.tar.gz", sha256 = "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447", subdirectory = "." }
conditional = { version = "*", when = { all = ["python >=3.10", { any = [{ package = "cuda", version = "12.*", build = "h*" }, "rocm"] }] } }
near = { pin-compatible = { lower-bound = "x.x", upper-bound = "2.0", build = "py*" } }
same = { pin-compatible = { exact = true } }

[package.run-dependencies."if(win)"]
vc = ">=14"

[package.run-constraints]
openssl = ">=3"

[package.extra-dependencies.test]
pytest = "*"
"if(win)" = { pywin = "*" }

[package.extra-dependencies.docs]
sphinx = "*"

[package.run-exports.weak]
own = { pin-subpackage = { upper-bound = "x.x" } }

[package.run-exports.strong-constraints]
own = { pin-subpackage = true }

[package.run-exports.noarch."if(unix)"]
other = "1"

[package.target.osx.host-dependencies]
clang = "*"

[package.target.linux-64.run-constraints]
glibc = ">=2.28"
"#;
    let package = alone(text).unwrap();
    assert_eq!(package.name.as_deref(), Some("own"));
    check_model(
        &package,
        expect![[r#"
        {
          "name": "own",
          "buildStringPrefix": "mine",
          "buildNumber": 7,
          "version": "1.2.3",
          "description": "words",
          "buildFlags": [
            "gpu",
            "blas"
          ],
          "authors": [
            "Somebody <somebody@conda.example>"
          ],
          "license": "MIT",
          "licenseFile": "LICENSE",
          "readme": "README.md",
          "homepage": "https://conda.example/own",
          "repository": "https://conda.example/repository",
          "documentation": "https://conda.example/docs",
          "targets": {
            "defaultTarget": {
              "hostDependencies": {
                "python": {
                  "binary": {
                    "version": "3.12.*"
                  }
                },
                "table": {
                  "binary": {
                    "version": "~=1.2",
                    "build": "py34_0",
                    "buildNumber": ">=1",
                    "fileName": "t-1-0.conda",
                    "extras": [
                      "fast"
                    ],
                    "flags": [
                      "gpu"
                    ],
                    "channel": "file:///projects/app/own/",
                    "subdir": "noarch",
                    "license": "MIT"
                  }
                },
                "hashes": {
                  "binary": {
                    "md5": "6f5902ac237024bdd0c176cb93063dc4",
                    "sha256": "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447"
                  }
                },
                "pinned": {
                  "pinCompatible": {
                    "lowerBound": {
                      "expression": "x.x.x.x.x.x"
                    },
                    "upperBound": {
                      "expression": "x"
                    }
                  }
                }
              },
              "buildDependencies": {
                "cmake": {
                  "binary": {
                    "version": "*"
                  }
                },
                "archive": {
                  "binary": {
                    "url": "file:///projects/app/x/archive-1.0-0.conda"
                  }
                }
              },
              "runDependencies": {
                "sibling": {
                  "source": {
                    "path": {
                      "path": "../sibling"
                    },
                    "version": ">=1",
                    "extras": [
                      "x"
                    ]
                  }
                },
                "theirs": {
                  "source": {
                    "git": {
                      "git": "https://git.example/theirs.git",
                      "rev": {
                        "tag": "v1"
                      },
                      "subdirectory": "a/b"
                    },
                    "build": "h*"
                  }
                },
                "default-branch": {
                  "source": {
                    "git": {
                      "git": "ssh://git@git.example/x"
                    }
                  }
                },
                "sources": {
                  "source": {
                    "url": {
                      "url": "https://conda.example/x.tar.gz",
                      "sha256": "a948904f2f0f479b8f8197694b30184b0d2ed1c1cd2a1ec0fb85d299a192a447"
                    }
                  }
                },
                "conditional": {
                  "binary": {
                    "version": "*",
                    "condition": {
                      "And": [
                        {
                          "MatchSpec": {
                            "name": "python",
                            "version": ">=3.10"
                          }
                        },
                        {
                          "Or": [
                            {
                              "MatchSpec": {
                                "name": "cuda",
                                "version": "12.*",
                                "build": "h*"
                              }
                            },
                            {
                              "MatchSpec": {
                                "name": "rocm"
                              }
                            }
                          ]
                        }
                      ]
                    }
                  }
                },
                "near": {
                  "pinCompatible": {
                    "lowerBound": {
                      "expression": "x.x"
                    },
                    "upperBound": {
                      "version": "2.0"
                    },
                    "build": "py*"
                  }
                },
                "same": {
                  "pinCompatible": {
                    "exact": true
                  }
                }
              },
              "runConstraints": {
                "openssl": {
                  "binary": {
                    "version": ">=3"
                  }
                }
              },
              "extraDependencies": {
                "test": {
                  "pytest": {
                    "binary": {
                      "version": "*"
                    }
                  }
                },
                "docs": {
                  "sphinx": {
                    "binary": {
                      "version": "*"
                    }
                  }
                }
              },
              "runExports": {
                "weak": {
                  "own": {
                    "pinSubpackage": {
                      "lowerBound": {
                        "expression": "x.x.x.x.x.x"
                      },
                      "upperBound": {
                        "expression": "x.x"
                      }
                    }
                  }
                },
                "strongConstraints": {
                  "own": {
                    "pinSubpackage": {
                      "lowerBound": {
                        "expression": "x.x.x.x.x.x"
                      },
                      "upperBound": {
                        "expression": "x"
                      }
                    }
                  }
                }
              }
            },
            "conditional": {
              "host_platform != build_platform": {
                "buildDependencies": {
                  "cross": {
                    "binary": {
                      "version": "==1"
                    }
                  }
                }
              },
              "win": {
                "runDependencies": {
                  "vc": {
                    "binary": {
                      "version": ">=14"
                    }
                  }
                },
                "extraDependencies": {
                  "test": {
                    "pywin": {
                      "binary": {
                        "version": "*"
                      }
                    }
                  }
                }
              },
              "unix": {
                "runExports": {
                  "noarch": {
                    "other": {
                      "binary": {
                        "version": "==1"
                      }
                    }
                  }
                }
              },
              "osx": {
                "hostDependencies": {
                  "clang": {
                    "binary": {
                      "version": "*"
                    }
                  }
                }
              },
              "host_platform == 'linux-64'": {
                "runConstraints": {
                  "glibc": {
                    "binary": {
                      "version": ">=2.28"
                    }
                  }
                }
              }
            }
          },
          "secrets": [
            "KEY",
            "TOKEN"
          ]
        }
    "#]],
    );
}

#[test]
fn what_is_not_said_is_left_out() {
    let package = alone(&format!("[package]\n{BACKEND}[package.run-dependencies]\n[package.target.win]\n")).unwrap();
    assert_eq!(package.name, None);
    assert_eq!(package.project_model.as_str(), "{}");
    assert_eq!((package.channels, package.configuration, package.build_source), (None, None, None));
}

#[test]
fn a_manifest_without_a_package_is_none() {
    for manifest in [
        pixi("[workspace]\nchannels = []\nplatforms = []\n"),
        pyproject("[project]\nname = \"x\"\n"),
        pyproject("[tool.pixi.workspace]\nchannels = []\nplatforms = []\n"),
        pixi(""),
    ] {
        assert_eq!(parse_package(manifest, None, &root(), ".", &options()).unwrap(), None, "{}", manifest.text);
    }
}

#[test]
fn the_model_does_not_change_with_what_is_around_it() {
    let package = with_backend("[package.run-dependencies]\na = \"1\"\n");
    let moved = with_backend("\n# words\n[tasks]\nx = \"y\"\n[package.run-dependencies]\n\na = '1' # more\n");
    assert_eq!(package, moved);
    let other = with_backend("[package.run-dependencies]\na = \"2\"\n");
    assert_ne!(package, other);
}

#[test]
fn a_package_is_written_and_read_again() {
    let package = with_backend("[package.run-dependencies]\na = { path = \"../a\" }\n[package.build.config]\nx = 1\n");
    let bytes = rmp_serde::to_vec_named(&package).unwrap();
    assert_eq!(rmp_serde::from_slice::<PackageManifest>(&bytes).unwrap(), package);
    let json = serde_json::to_string(&package).unwrap();
    assert_eq!(serde_json::from_str::<PackageManifest>(&json).unwrap(), package);
}

#[test]
fn fields_are_taken_over_from_the_workspace_if_it_is_asked_for() {
    let workspace = r#"
[workspace]
name = "whole"
version = "4.5"
description = "shared"
authors = ["All of us"]
license = "BSD-3-Clause"
license-file = "LICENSE"
readme = "packages/README.md"
homepage = "https://conda.example"
repository = "https://conda.example/repository"
documentation = "https://conda.example/docs"
channels = []
platforms = ["linux-64"]
"#;
    let own = format!(
        r#"
[package]
name.workspace = true
version = {{ workspace = true }}
description.workspace = true
authors.workspace = true
license.workspace = true
license-file.workspace = true
readme.workspace = true
homepage.workspace = true
repository.workspace = true
documentation.workspace = true
{BACKEND}"#
    );
    check_model(
        &member(&own, workspace),
        expect![[r#"
        {
          "name": "whole",
          "version": "4.5",
          "description": "shared",
          "authors": [
            "All of us"
          ],
          "license": "BSD-3-Clause",
          "licenseFile": "../../LICENSE",
          "readme": "../README.md",
          "homepage": "https://conda.example/",
          "repository": "https://conda.example/repository",
          "documentation": "https://conda.example/docs"
        }
    "#]],
    );
    let silent = member(&format!("[package]\nname = \"own\"\n{BACKEND}"), workspace);
    assert_eq!(silent.project_model.as_str(), r#"{"name":"own"}"#, "nothing is taken over unasked");
}

#[test]
fn a_manifest_that_is_a_workspace_is_its_own() {
    let own = format!("[workspace]\nversion = \"2\"\n[package]\nversion.workspace = true\n{BACKEND}");
    let other = "[workspace]\nversion = \"1\"\n";
    let package = parse_package(pixi(&own), Some(pixi(other)), &root(), ".", &options()).unwrap().unwrap();
    assert_eq!(package.project_model.as_str(), r#"{"version":"2"}"#);
}

#[test]
fn what_the_workspace_does_not_have_cannot_be_taken_over() {
    refused(
        &format!("[package]\nversion.workspace = true\n{BACKEND}"),
        expect![[r#"
         × the workspace does not define `workspace.version`
          ╭─[pixi.toml:2:9]
        1 │ [package]
        2 │ version.workspace = true
          ·         ─────────
        3 │ [package.build]
          ╰────
         help: define it in the manifest of the workspace
    "#]],
    );
    refused(
        &format!("[workspace]\n[package]\nversion = {{ workspace = false }}\n{BACKEND}"),
        expect![[r#"
         × `false` is not a value of `package.version.workspace`
          ╭─[pixi.toml:3:25]
        2 │ [package]
        3 │ version = { workspace = false }
          ·                         ─────
        4 │ [package.build]
          ╰────
         help: nothing is taken over from the workspace unless one asks for it
    "#]],
    );
    refused_with_backend(
        "[workspace.dependencies]\nother = \"1\"\n[package.run-dependencies]\nnumpy = { workspace = true }\n",
        expect![[r#"
             × the workspace does not define `workspace.dependencies.numpy`
              ╭─[pixi.toml:8:11]
            7 │ [package.run-dependencies]
            8 │ numpy = { workspace = true }
              ·           ─────────
              ╰────
             help: define it in the manifest of the workspace
        "#]],
    );
}

#[test]
fn python_projects_say_name_version_description_and_authors_elsewhere() {
    let project = r#"
[project]
name = "thing"
version = "1.0rc1"
description = "words"
license = "MIT"
readme = "README.md"
authors = [{ name = "A", email = "a@conda.example" }, { name = "B" }, { email = "c@conda.example" }]
"#;
    let build = BACKEND.replace("[package", "[tool.pixi.package");
    let read = |text: &str| parse_package(pyproject(text), None, &root(), ".", &options()).unwrap().unwrap();
    let package = read(&format!("{project}{build}"));
    check_model(
        &package,
        expect![[r#"
        {
          "name": "thing",
          "version": "1.0rc1",
          "description": "words",
          "authors": [
            "A <a@conda.example>",
            "B",
            "c@conda.example"
          ]
        }
    "#]],
    );
    let package = read(&format!("{project}[tool.pixi.package]\nname = \"python-thing\"\nversion = \"2\"\n{build}"));
    assert_eq!(package.name.as_deref(), Some("python-thing"));
    assert_eq!(model(&package)["version"], "2");

    let own = format!("[package]\nversion.workspace = true\n{BACKEND}");
    let workspace = pyproject("[project]\nversion = \"3\"\n[tool.pixi.workspace]\n");
    let package = parse_package(pixi(&own), Some(workspace), &root(), "own", &options()).unwrap().unwrap();
    assert_eq!(model(&package)["version"], "3", "the project of the workspace stands in for it");
}

#[test]
fn shared_dependencies_are_taken_over_and_can_be_narrowed() {
    let workspace = r#"
[workspace]
[workspace.dependencies]
NumPy = "1.*"
boltons = { version = ">=24", channel = "conda-forge" }
shared = { path = "packages/shared" }
archive = { path = "archive-1.0-0.conda" }
theirs = { git = "https://git.example/theirs" }
pixi-build-cmake = "0.3.*"
"#;
    let own = r#"
[package.build]
backend = { name = "pixi-build-cmake", workspace = true, channels = ["main"] }
[package.host-dependencies]
numpy = { workspace = true, build = "py311*" }
boltons.workspace = true
shared = { workspace = true }
archive = { workspace = true }
[package.run-dependencies."if(win)"]
theirs = { workspace = true, branch = "dev" }
"#;
    let package = member(own, workspace);
    check_model(
        &package,
        expect![[r#"
        {
          "targets": {
            "defaultTarget": {
              "hostDependencies": {
                "numpy": {
                  "binary": {
                    "version": "1.*",
                    "build": "py311*"
                  }
                },
                "boltons": {
                  "binary": {
                    "version": ">=24",
                    "channel": "https://conda.example/conda-forge/"
                  }
                },
                "shared": {
                  "source": {
                    "path": {
                      "path": "../shared"
                    }
                  }
                },
                "archive": {
                  "binary": {
                    "url": "file:///projects/app/archive-1.0-0.conda"
                  }
                }
              }
            },
            "conditional": {
              "win": {
                "runDependencies": {
                  "theirs": {
                    "source": {
                      "git": {
                        "git": "https://git.example/theirs",
                        "rev": {
                          "branch": "dev"
                        }
                      }
                    }
                  }
                }
              }
            }
          }
        }
    "#]],
    );
    let ToolRequirement::Package(requirement) = &package.backend.requirement else { panic!("it is from a channel") };
    assert_eq!(requirement.to_string(), "pixi-build-cmake 0.3.*");
}

#[test]
fn what_the_workspace_says_is_not_said_again() {
    refused_with_backend(
        "[workspace.dependencies]\na = \"1\"\n[package.run-dependencies]\na = { workspace = true, version = \"2\" }\n",
        expect![[r#"
             × the requirement of `a` cannot be read: `version` is for `[workspace.dependencies]` to say
              ╭─[pixi.toml:8:25]
            7 │ [package.run-dependencies]
            8 │ a = { workspace = true, version = "2" }
              ·                         ───────
              ╰────
             help: leave out `workspace = true` to say it here
        "#]],
    );
}

#[test]
fn a_backend_has_a_name_a_place_companions_and_channels() {
    let package = alone(
        r#"
[package.build]
source = { git = "https://git.example/own", rev = "0123abc" }
[package.build.backend]
name = "Pixi-Build-Mine"
path = "../backend"
channels = ["main", "./own", "main"]
additional-dependencies = { tool = ">=2", other = "*" }
"#,
    )
    .unwrap();
    let channels: Vec<String> = package.channels.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(channels, ["https://conda.example/main/", "./own"]);
    assert_eq!(package.backend.name, "pixi-build-mine");
    let ToolRequirement::Source(source) = &package.backend.requirement else { panic!("it is built") };
    assert_eq!(source.to_string(), "pixi-build-mine from ../backend");
    let names: Vec<&str> = package.backend.additional.iter().map(ToolRequirement::name).collect();
    assert_eq!(names, ["other", "tool"]);
    let source = SourceLocation::Git {
        url: "https://git.example/own".to_owned(),
        reference: GitReference::Rev("0123abc".to_owned()),
        subdirectory: String::new(),
        lfs: None,
    };
    assert_eq!(package.build_source, Some(source));
}

#[test]
fn a_backend_without_a_version_may_have_any() {
    let package = alone("[package.build]\nbackend.name = \"pixi-build-rust\"\n").unwrap();
    let ToolRequirement::Package(requirement) = &package.backend.requirement else { panic!("it is from a channel") };
    assert_eq!(requirement.spec, "pixi-build-rust");
}

#[test]
fn configuration_is_handed_on_as_it_is() {
    let package = with_backend(
        r#"
[package.build.config]
z = 0x10
a = { list = [1, "two", 3.5, true, 2026-01-01], empty = {} }
[package.build.target.osx.config]
z = 2
[package.build.target.linux-64.config]
z = 1
[package.build.target.unix]
"#,
    );
    assert_eq!(
        package.configuration.unwrap().as_str(),
        r#"{"a":{"empty":{},"list":[1,"two",3.5,true,"2026-01-01"]},"z":16}"#
    );
    let targets: Vec<_> =
        package.target_configuration.iter().map(|(name, json)| (name.as_str(), json.as_str())).collect();
    assert_eq!(targets, [("macos", r#"{"z":2}"#), ("linux-64", r#"{"z":1}"#)]);
}

#[test]
fn older_ways_to_write_it_work_and_are_told() {
    let text = r#"
[package]
name = "own"
typo = 1
[package.build]
backend = { name = "pixi-build-cmake", version = "*", sort = 1 }
channels = ["main"]
additional-dependencies = { tool = "*" }
configuration = { x = 1 }
[package.target.win.run-dependencies]
vc = { version = "*", sort = 1 }
"#;
    let package = alone(text).unwrap();
    assert_eq!(package.channels.map(|channels| channels.len()), Some(1));
    assert_eq!(package.backend.additional.len(), 1);
    assert_eq!(package.configuration.as_ref().map(Json::as_str), Some(r#"{"x":1}"#));
    let warnings = package_warnings(pixi(text), None, &root(), ".", &options()).unwrap();
    let warnings: String = warnings.iter().map(|warning| format!("{warning}\n")).collect();
    expect![[r#"
        line 4: `package.typo` is not a known key and has no effect
        line 6: `package.build.backend.sort` is not a known key and has no effect
        line 7: `package.build.channels` is deprecated, write `channels` in `[package.build.backend]`
        line 8: `package.build.additional-dependencies` is deprecated, write `additional-dependencies` in `[package.build.backend]`
        line 9: `package.build.configuration` is deprecated, write `config`
        line 10: `package.target.win` is deprecated, write `"if(…)"` tables in the tables of dependencies
        line 11: `package.target.win.run-dependencies.vc.sort` is not a known key and has no effect
    "#]].assert_eq(&warnings);
}

#[test]
fn one_condition_is_one_target_whichever_table_it_is_in() {
    let package = with_backend(
        r#"
[package.host-dependencies."if(win)"]
a = "1"
[package.run-dependencies."if( win )"]
b = "1"
"#,
    );
    let conditional = model(&package)["targets"]["conditional"].clone();
    expect![[r#"{"win":{"hostDependencies":{"a":{"binary":{"version":"==1"}}},"runDependencies":{"b":{"binary":{"version":"==1"}}}}}"#]].assert_eq(&conditional.to_string());
}

#[test]
fn a_package_nobody_builds() {
    refused(
        "[package]\nname = \"own\"\n",
        expect![[r#"
         × `package.build.backend` is missing
          ╭─[pixi.toml:1:2]
        1 │ [package]
          ·  ───────
        2 │ name = "own"
          ╰────
         help: a package is built by a backend, as in `backend = { name = "pixi-build-cmake", version =
               "*" }`
    "#]],
    );
    refused(
        "[package]\n[package.build]\nchannels = [\"main\"]\n",
        expect![[r#"
         × `package.build.backend` is missing
          ╭─[pixi.toml:2:10]
        1 │ [package]
        2 │ [package.build]
          ·          ─────
        3 │ channels = ["main"]
          ╰────
         help: a package is built by a backend, as in `backend = { name = "pixi-build-cmake", version =
               "*" }`
    "#]],
    );
    refused(
        "[package.build]\nbackend = { version = \"1\" }\n",
        expect![[r#"
         × `package.build.backend.name` is missing
          ╭─[pixi.toml:2:1]
        1 │ [package.build]
        2 │ backend = { version = "1" }
          · ───────
          ╰────
         help: a package is built by a backend, as in `backend = { name = "pixi-build-cmake", version =
               "*" }`
    "#]],
    );
    refused(
        "[package.build]\nbackend = { name = \"a\", channels = [] }\n",
        expect![[r#"
         × `package.build.backend.channels` must be a list of at least one channel, not an array
          ╭─[pixi.toml:2:36]
        1 │ [package.build]
        2 │ backend = { name = "a", channels = [] }
          ·                                    ──
          ╰────
    "#]],
    );
}

#[test]
fn fields_that_cannot_be_read() {
    refused(
        "[package]\nname = \"no name\"\n",
        expect![[r#"
         × `no name` cannot be the name of a package: only letters, digits, `-`, `_` and `.` are allowed
          ╭─[pixi.toml:2:8]
        1 │ [package]
        2 │ name = "no name"
          ·        ─────────
          ╰────
    "#]],
    );
    refused(
        "[package]\nversion = \"a!0\"\n",
        expect![[r#"
         × `a!0` is not a version: malformed version string 'a!0': encountered more characters but
         │ expected none
          ╭─[pixi.toml:2:11]
        1 │ [package]
        2 │ version = "a!0"
          ·           ─────
          ╰────
    "#]],
    );
    refused(
        "[package]\nhomepage = \"nowhere\"\n",
        expect![[r#"
         × `nowhere` is not a URL: relative URL without a base
          ╭─[pixi.toml:2:12]
        1 │ [package]
        2 │ homepage = "nowhere"
          ·            ─────────
          ╰────
    "#]],
    );
    refused(
        "[package]\ndescription = { text = \"words\" }\n",
        expect![[r#"
         × `package.description` must be a value, or `{ workspace = true }`, not a table
          ╭─[pixi.toml:2:15]
        1 │ [package]
        2 │ description = { text = "words" }
          ·               ──────────────────
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.build.config]\nx = nan\n",
        expect![[r#"
         × `nan` is not a number: it is not finite
          ╭─[pixi.toml:6:5]
        5 │ [package.build.config]
        6 │ x = nan
          ·     ───
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.extra-dependencies.Test]\nx = \"*\"\n",
        expect![[r#"
         × `Test` cannot be the name of an extra: up to 64 lower-case letters, digits, `.`, `_`, `+` and
         │ `-` are allowed
          ╭─[pixi.toml:5:29]
        4 │ backend = { name = "pixi-build-cmake", version = "0.3.*" }
        5 │ [package.extra-dependencies.Test]
          ·                             ────
        6 │ x = "*"
          ╰────
    "#]],
    );
}

#[test]
fn pins_where_there_is_nothing_to_pin_to() {
    refused_with_backend(
        "[package.build-dependencies]\na = { pin-compatible = true }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: nothing is installed before the build environment, so
         │ there is nothing to pin to
          ╭─[pixi.toml:6:24]
        5 │ [package.build-dependencies]
        6 │ a = { pin-compatible = true }
          ·                        ────
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-constraints]\na = { pin-compatible = true }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: pins belong to what is needed to run, to host, or
         │ exported
          ╭─[pixi.toml:6:24]
        5 │ [package.run-constraints]
        6 │ a = { pin-compatible = true }
          ·                        ────
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-dependencies]\nown = { pin-subpackage = true }\n",
        expect![[r#"
         × the requirement of `own` cannot be read: a package pins itself only for others, in `run-
         │ exports`
          ╭─[pixi.toml:6:26]
        5 │ [package.run-dependencies]
        6 │ own = { pin-subpackage = true }
          ·                          ────
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-dependencies]\nOwn = { pin-compatible = true }\n",
        expect![[r#"
         × the requirement of `Own` cannot be read: no package is among those it is built with
          ╭─[pixi.toml:6:26]
        5 │ [package.run-dependencies]
        6 │ Own = { pin-compatible = true }
          ·                          ────
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-exports.weak]\na = { pin-subpackage = true }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: `pin-subpackage` is for the package itself
          ╭─[pixi.toml:6:24]
        5 │ [package.run-exports.weak]
        6 │ a = { pin-subpackage = true }
          ·                        ────
          ╰────
    "#]],
    );
}

#[test]
fn pins_that_contradict_themselves() {
    let run = |pin: &str| format!("[package.run-dependencies]\na = {pin}\n");
    refused_with_backend(
        &run("{ pin-compatible = true, version = \"1\" }"),
        expect![[r#"
         × the requirement of `a` cannot be read: `pin-compatible` cannot be combined with `version`
          ╭─[pixi.toml:6:5]
        5 │ [package.run-dependencies]
        6 │ a = { pin-compatible = true, version = "1" }
          ·     ────────────────────────────────────────
          ╰────
    "#]],
    );
    refused_with_backend(
        &run("{ pin-compatible = false }"),
        expect![[r#"
         × the requirement of `a` cannot be read: `pin-compatible = false` means nothing
          ╭─[pixi.toml:6:24]
        5 │ [package.run-dependencies]
        6 │ a = { pin-compatible = false }
          ·                        ─────
          ╰────
    "#]],
    );
    refused_with_backend(
        &run("{ pin-compatible = \"x.x\" }"),
        expect![[r#"
         × `package.run-dependencies.a.pin-compatible` must be `true` or a table, not a string
          ╭─[pixi.toml:6:24]
        5 │ [package.run-dependencies]
        6 │ a = { pin-compatible = "x.x" }
          ·                        ─────
          ╰────
    "#]],
    );
    refused_with_backend(
        &run("{ pin-compatible = { exact = true, build = \"x\" } }"),
        expect![[r#"
         × the requirement of `a` cannot be read: an exact pin leaves nothing for `build` to say
          ╭─[pixi.toml:6:48]
        5 │ [package.run-dependencies]
        6 │ a = { pin-compatible = { exact = true, build = "x" } }
          ·                                                ───
          ╰────
    "#]],
    );
    refused_with_backend(
        &run("{ pin-compatible = { lower-bound = \"x.!\" } }"),
        expect![[r#"
         × `x.!` is not a version, nor how much of one counts, like `x.x`: malformed version string
         │ 'x.!': encountered more characters but expected none
          ╭─[pixi.toml:6:40]
        5 │ [package.run-dependencies]
        6 │ a = { pin-compatible = { lower-bound = "x.!" } }
          ·                                        ─────
          ╰────
    "#]],
    );
}

#[test]
fn exports_that_mean_nothing_to_others() {
    refused_with_backend(
        "[package.run-exports.weak]\na = { url = \"https://x.example/a.zip\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: a URL or an archive means nothing to packages that are
         │ built with this one
          ╭─[pixi.toml:6:5]
        5 │ [package.run-exports.weak]
        6 │ a = { url = "https://x.example/a.zip" }
          ·     ───────────────────────────────────
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-exports.weak-constraints]\na = { path = \"../a\" }\n",
        expect![[r#"
         × the requirement of `a` cannot be read: a constraint only limits what is there, and builds
         │ nothing
          ╭─[pixi.toml:6:5]
        5 │ [package.run-exports.weak-constraints]
        6 │ a = { path = "../a" }
          ·     ─────────────────
          ╰────
    "#]],
    );
}

#[test]
fn conditions_that_are_none() {
    refused_with_backend(
        "[package.run-dependencies.\"when(win)\"]\na = \"1\"\n",
        expect![[r#"
         × `when(win)` cannot be the name of a dependency: a condition is written `if(…)`, as in
         │ `if(host_platform == 'linux-64')`
          ╭─[pixi.toml:5:27]
        4 │ backend = { name = "pixi-build-cmake", version = "0.3.*" }
        5 │ [package.run-dependencies."when(win)"]
          ·                           ───────────
        6 │ a = "1"
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-dependencies.\"if()\"]\na = \"1\"\n",
        expect![[r#"
         × `if()` cannot be the name of a dependency: a condition is written `if(…)`, as in
         │ `if(host_platform == 'linux-64')`
          ╭─[pixi.toml:5:27]
        4 │ backend = { name = "pixi-build-cmake", version = "0.3.*" }
        5 │ [package.run-dependencies."if()"]
          ·                           ──────
        6 │ a = "1"
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-dependencies.\"if(win)\"]\na = \"1\"\n[package.target.win.run-dependencies]\nb = \"1\"\n",
        expect![[r#"
             × the condition `win` is there twice
              ╭─[pixi.toml:7:17]
            6 │ a = "1"
            7 │ [package.target.win.run-dependencies]
              ·                 ───
            8 │ b = "1"
              ╰────
             help: a target table and an `"if(…)"` table mean the same; keep one of them
        "#]],
    );
    refused_with_backend(
        "[package.target.\"linux-*\".run-dependencies]\nb = \"1\"\n",
        expect![[r#"
         × `linux-*` cannot be the name of a target of a package: a package does not know the names of
         │ platforms
          ╭─[pixi.toml:5:17]
        4 │ backend = { name = "pixi-build-cmake", version = "0.3.*" }
        5 │ [package.target."linux-*".run-dependencies]
          ·                 ─────────
        6 │ b = "1"
          ╰────
    "#]],
    );
    refused_with_backend(
        "[package.run-dependencies]\na = { version = \"*\", when = [\"b\"] }\n",
        expect![[r#"
         × `package.run-dependencies.a.when` must be a package, or a table with one of `all`, `any` and
         │ `package`, not an array
          ╭─[pixi.toml:6:29]
        5 │ [package.run-dependencies]
        6 │ a = { version = "*", when = ["b"] }
          ·                             ─────
          ╰────
    "#]],
    );
}

#[test]
fn an_error_in_what_is_shared_is_shown_where_it_is() {
    let workspace = "[workspace]\n[workspace.dependencies]\na = { version = \"1 2 3\" }\n";
    let own = format!("[package]\n{BACKEND}[package.run-dependencies]\na.workspace = true\n");
    let workspace = ManifestText { file_name: "pyproject.toml", text: &workspace.replace("[w", "[tool.pixi.w") };
    let error = parse_package(pixi(&own), Some(workspace), &root(), "own", &options()).unwrap_err();
    expect![[r#"
         × the requirement of `a` cannot be read: there is something where a version or an operator
         │ should be
          ╭─[pyproject.toml:3:17]
        2 │ [tool.pixi.workspace.dependencies]
        3 │ a = { version = "1 2 3" }
          ·                 ───────
          ╰────
         help: to ask for a build as well, write { version = "1", build = "2 3" }
    "#]]
    .assert_eq(&rendered(&error));
}

#[test]
fn an_environment_is_not_kept_from_anybody_by_a_package() {
    let workspace = small("[package]\nname = 1\n");
    assert!(workspace.has_package());
    assert_eq!(warnings(&workspace), "");
    assert!(workspace.describe("default", "linux-64").is_ok());
    assert!(!small("").has_package());
}
