//! Whole sessions with the backend as a process, as a client has them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

/// A project on disk.
struct Project {
    directory: TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self { directory: tempfile::tempdir().unwrap() };
        project.write("source/pixi.toml", "[package.build.config]\nfail = \"error\"\n");
        project.write("source/content/bin/tool", "#!/bin/sh\necho tool\n");
        project.write("source/content/share/doc.txt", "a document\n");
        project.write("source/src/main.c", "int main;\n");
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.directory.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.path(path)).unwrap()
    }

    fn initialize_params(&self, configuration: Value) -> Value {
        json!({
            "manifestPath": self.path("source/pixi.toml"),
            "sourceDirectory": self.path("source"),
            "projectModel": model(),
            "configuration": configuration,
        })
    }

    fn outputs_params(&self) -> Value {
        json!({
            "channels": [],
            "hostPlatform": "linux-64",
            "buildPlatform": "linux-64",
            "variantConfiguration": { "python": ["3.11", "3.12"], "mkl": [1, 2], "unused": ["x"] },
            "workDirectory": self.path("work"),
        })
    }

    fn build_params(&self) -> Value {
        let installed = json!({ "name": "zlib", "version": "1.3", "build": "h0_0", "fn": "zlib-1.3-h0_0.conda" });
        json!({
            "channels": [],
            "buildPrefix": {
                "prefix": self.path("bld"), "platform": "linux-64", "dependencies": [], "constraints": [],
                "packages": [{ "name": "make", "version": "4", "build": "0" }],
            },
            "hostPrefix": {
                "prefix": self.path("host"), "platform": "linux-64", "dependencies": [], "constraints": [],
                "packages": [installed],
            },
            "runDependencies": [
                { "spec": { "name": "zlib", "version": ">=1.3,<2.0a0" },
                  "source": { "type": "runExport", "from": "host", "runExport": "zlib" } },
                { "spec": "python 3.12.*" },
            ],
            "runConstraints": [{ "spec": { "name": "numpy", "version": "<2" } }],
            "runExports": {
                "weak": [{ "spec": { "name": "app", "version": ">=1.2.3,<2.0a0" } }],
                "strong": [], "noarch": [], "weakConstrains": [], "strongConstrains": [],
            },
            "extraDependencies": { "docs": [{ "spec": { "name": "sphinx" } }] },
            "output": {
                "name": "app", "version": "1.2.3", "build": "h01234567_4", "subdir": "linux-64",
                "variant": { "python": "3.12", "mkl": 2 },
            },
            "workDirectory": self.path("work"),
            "outputDirectory": null,
            "editable": false,
        })
    }

    /// A session that is initialized.
    fn session(&self, configuration: Value) -> Client {
        let mut client = Client::spawn(&[], &[]);
        client.result("negotiateCapabilities", json!({ "capabilities": {} }));
        client.result("initialize", self.initialize_params(configuration));
        client
    }

    /// The archive that a fresh session builds, with the result.
    #[track_caller]
    fn built(&self, configuration: Value, params: Value) -> (Vec<u8>, Value) {
        let mut client = self.session(configuration);
        let result = client.result("conda/build_v1", params);
        assert!(client.end().0.success());
        (fs::read(result["output_file"].as_str().unwrap()).unwrap(), result)
    }
}

fn model() -> Value {
    json!({
        "name": "app",
        "version": "1.2.3",
        "buildNumber": 4,
        "license": "MIT",
        "homepage": "https://example.org/",
        "targets": {
            "defaultTarget": {
                "buildDependencies": { "make": { "binary": { "version": ">=4" } } },
                "hostDependencies": {
                    "python": { "binary": { "version": "*" } },
                    "mkl": { "binary": { "version": "*" } },
                    "lib": { "source": { "path": "../lib", "version": null } },
                },
                "runDependencies": {
                    "python": { "pinCompatible": { "lowerBound": { "expression": "x.x" }, "exact": false } },
                },
                "runConstraints": { "numpy": { "binary": { "version": "<2" } } },
                "extraDependencies": { "docs": { "sphinx": { "binary": { "version": "*" } } } },
                "runExports": {
                    "weak": { "app": { "pinSubpackage": {
                        "lowerBound": { "expression": "x.x.x.x.x.x" }, "upperBound": { "expression": "x" },
                        "exact": false,
                    } } },
                    "strong": { "app": { "pinSubpackage": { "exact": true } } },
                    "weakConstraints": { "old": { "binary": { "version": "<1" } } },
                },
            },
            "conditional": { "if(win)": { "runDependencies": { "vc": { "binary": {} } } } },
        },
    })
}

struct Client {
    child: Child,
    /// Dropped to end the session.
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
    stderr: Option<std::thread::JoinHandle<Vec<u8>>>,
    next_id: u64,
}

impl Client {
    fn spawn(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doge-test-backend"));
        command.args(arguments).env_remove("DOGE_TEST_BACKEND_LOG").env_remove("DOGE_TEST_BACKEND_CONFIG");
        command.envs(environment.iter().copied());
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            stderr.read_to_end(&mut bytes).unwrap();
            bytes
        });
        Self {
            stdin: child.stdin.take(),
            stdout: BufReader::new(child.stdout.take().unwrap()),
            stderr: Some(stderr),
            child,
            next_id: 1,
        }
    }

    fn send_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().unwrap();
        stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
    }

    fn send(&mut self, method: &str, params: Value) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.send_line(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    fn receive_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    #[track_caller]
    fn receive(&mut self) -> Value {
        let line = self.receive_line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error} in {line:?}"))
    }

    #[track_caller]
    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, params);
        let message = self.receive();
        assert_eq!((&message["jsonrpc"], &message["id"]), (&json!("2.0"), &json!(id)));
        message
    }

    #[track_caller]
    fn result(&mut self, method: &str, params: Value) -> Value {
        let message = self.call(method, params);
        assert!(message.get("error").is_none(), "{message:#}");
        message["result"].clone()
    }

    #[track_caller]
    fn error(&mut self, method: &str, params: Value) -> Value {
        let message = self.call(method, params);
        assert!(message.get("result").is_none(), "{message:#}");
        message["error"].clone()
    }

    /// Closes standard input; what the process then says last.
    fn end(mut self) -> (ExitStatus, String) {
        drop(self.stdin.take());
        let status = self.child.wait().unwrap();
        let stderr = self.stderr.take().unwrap().join().unwrap();
        (status, String::from_utf8(stderr).unwrap())
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A file in an archive: its mode and its content, or what it links to.
type Entry = (u32, Vec<u8>);

/// The files of a package and those of its `info` directory.
fn unpacked(archive: &[u8]) -> (BTreeMap<String, Entry>, BTreeMap<String, Value>) {
    let mut zip = zip::ZipArchive::new(Cursor::new(archive)).unwrap();
    let mut files = BTreeMap::new();
    let mut info = BTreeMap::new();
    for index in 0..zip.len() {
        let mut part = zip.by_index(index).unwrap();
        let mut bytes = Vec::new();
        part.read_to_end(&mut bytes).unwrap();
        let name = part.name().unwrap().into_owned();
        assert_eq!(part.compression(), zip::CompressionMethod::Stored);
        if name.starts_with("pkg-") {
            files = untarred(&zstd::decode_all(&*bytes).unwrap());
        } else if name.starts_with("info-") {
            let parsed = untarred(&zstd::decode_all(&*bytes).unwrap()).into_iter();
            info = parsed.map(|(path, (_, bytes))| (path, serde_json::from_slice(&bytes).unwrap())).collect();
        } else {
            assert_eq!(name, "metadata.json");
            let metadata: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(metadata, json!({ "conda_pkg_format_version": 2 }));
        }
    }
    (files, info)
}

fn untarred(tar: &[u8]) -> BTreeMap<String, Entry> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let path = entry.path().unwrap().to_str().unwrap().to_owned();
        let mode = entry.header().mode().unwrap();
        assert_eq!(entry.header().mtime().unwrap(), 0);
        let mut bytes = Vec::new();
        match entry.link_name().unwrap() {
            Some(target) => bytes.extend_from_slice(target.to_str().unwrap().as_bytes()),
            None => drop(entry.read_to_end(&mut bytes).unwrap()),
        }
        (path, (mode, bytes))
    });
    entries.collect()
}

fn text(files: &BTreeMap<String, Entry>, path: &str) -> String {
    let entry = files.get(path).unwrap_or_else(|| panic!("no {path} in {:?}", files.keys()));
    String::from_utf8(entry.1.clone()).unwrap()
}

fn paths_entry<'a>(info: &'a BTreeMap<String, Value>, path: &str) -> &'a Value {
    info["info/paths.json"]["paths"].as_array().unwrap().iter().find(|entry| entry["_path"] == path).unwrap()
}

#[test]
fn negotiation_offers_both_procedures() {
    let mut client = Client::spawn(&[], &[]);
    let result = client.result("negotiateCapabilities", json!({ "capabilities": {} }));
    assert_eq!(result, json!({ "capabilities": { "providesCondaOutputs": true, "providesCondaBuildV1": true } }));
    let (status, stderr) = client.end();
    assert!(status.success());
    assert_eq!(stderr, "");
}

#[test]
fn a_second_initialize_is_refused() {
    let project = Project::new();
    let mut client = project.session(json!({}));
    assert_eq!(client.error("initialize", project.initialize_params(json!({})))["code"], -32600);
    client.result("conda/outputs", project.outputs_params());
}

#[test]
fn outputs_fan_out_over_the_variants_that_are_used() {
    let project = Project::new();
    let mut client = project.session(json!({}));
    let result = client.result("conda/outputs", project.outputs_params());
    assert_eq!(result["inputGlobs"], json!(["content/**", "pixi.toml", "pyproject.toml", "recipe.yaml"]));
    assert!(result.get("inputGlobSets").is_none());

    let outputs = result["outputs"].as_array().unwrap();
    let variants: Vec<Value> = outputs.iter().map(|output| output["metadata"]["variant"].clone()).collect();
    assert_eq!(
        variants,
        [
            json!({ "mkl": 1, "python": "3.11" }),
            json!({ "mkl": 1, "python": "3.12" }),
            json!({ "mkl": 2, "python": "3.11" }),
            json!({ "mkl": 2, "python": "3.12" }),
        ]
    );
    let builds: Vec<&str> = outputs.iter().map(|output| output["metadata"]["build"].as_str().unwrap()).collect();
    assert!(builds.iter().all(|build| build.len() == "h01234567_4".len() && build.ends_with("_4")), "{builds:?}");
    assert_eq!(builds.iter().collect::<std::collections::BTreeSet<_>>().len(), 4);

    let output = &outputs[1];
    let expected = json!({
        "metadata": {
            "name": "app", "version": "1.2.3", "build": builds[1], "buildNumber": 4, "subdir": "linux-64",
            "license": "MIT", "licenseFamily": null, "flags": [], "trackFeatures": [], "noarch": false,
            "purls": null, "pythonSitePackagesPath": null, "variant": { "mkl": 1, "python": "3.12" },
        },
        "buildDependencies": {
            "depends": [{ "name": "make", "binary": { "version": ">=4" } }], "constraints": [],
        },
        "hostDependencies": {
            "depends": [
                { "name": "python", "binary": { "version": "3.12.*" } },
                { "name": "mkl", "binary": { "version": "1.*" } },
                { "name": "lib", "source": { "path": "../lib", "version": null } },
            ],
            "constraints": [],
        },
        "runDependencies": {
            "depends": [
                { "name": "python", "pinCompatible": { "lowerBound": { "expression": "x.x" }, "exact": false } },
            ],
            "constraints": [{ "name": "numpy", "binary": { "version": "<2" } }],
        },
        "extraDependencies": { "docs": [{ "name": "sphinx", "binary": { "version": "*" } }] },
        "ignoreRunExports": { "byName": [], "fromPackage": [] },
        "runExports": {
            "weak": [{ "name": "app", "binary": { "version": ">=1.2.3,<2.0a0" } }],
            "strong": [{ "name": "app", "binary": { "version": "==1.2.3", "build": builds[1] } }],
            "noarch": [],
            "weakConstrains": [{ "name": "old", "binary": { "version": "<1" } }],
            "strongConstrains": [],
        },
        "inputGlobs": null,
        "inputGlobSets": null,
    });
    assert_eq!(*output, expected);
    assert_eq!(client.end().1, "doge-test-backend ignores the conditional target 'if(win)'\n");
}

#[test]
fn without_variants_there_is_one_output_and_a_plain_build_string() {
    let project = Project::new();
    let mut client = project.session(json!({ "noarch": true, "globs": ["a"], "glob_sets": [{ "patterns": ["b"] }] }));
    let mut params = project.outputs_params();
    params["variantConfiguration"] = Value::Null;
    let result = client.result("conda/outputs", params);
    assert_eq!(result["outputs"].as_array().unwrap().len(), 1);
    let metadata = &result["outputs"][0]["metadata"];
    assert_eq!(
        (&metadata["build"], &metadata["subdir"], &metadata["noarch"]),
        (&json!("4"), &json!("noarch"), &json!("generic"))
    );
    assert_eq!(result["inputGlobs"], json!(["a"]));
    assert_eq!(result["inputGlobSets"], json!([{ "patterns": ["b"], "excludeHidden": true }]));
}

#[test]
fn several_outputs_can_pin_one_another() {
    let project = Project::new();
    let mut client = project.session(json!({ "outputs": [
        { "name": "app", "host_dependencies": {}, "run_dependencies": { "app-lib": { "pinSubpackage": { "exact": true } } } },
        { "name": "app-lib", "version": "7", "build_number": 0, "run_dependencies": { "zlib": ">=1" } },
    ] }));
    let mut params = project.outputs_params();
    params["variantConfiguration"] = json!({ "python": ["3.12"] });
    let result = client.result("conda/outputs", params);
    let outputs = result["outputs"].as_array().unwrap();
    assert_eq!(outputs.len(), 2);
    let library = &outputs[1]["metadata"];
    assert_eq!((&library["name"], &library["version"]), (&json!("app-lib"), &json!("7")));
    assert_eq!(outputs[0]["hostDependencies"], Value::Null);
    assert_eq!(
        outputs[0]["runDependencies"]["depends"],
        json!([{ "name": "app-lib", "binary": { "version": "==7", "build": library["build"] } }])
    );
    assert_eq!(outputs[1]["runDependencies"]["depends"], json!([{ "name": "zlib", "binary": { "version": ">=1" } }]));
}

#[test]
fn a_build_packages_the_files_and_what_was_asked_for() {
    let project = Project::new();
    project.write("host/share/zlib/stamp.txt", "0123\n");
    project.write("source/content/lib/config.txt", "prefix=@HOST_PREFIX@\n");
    let (archive, result) = project.built(json!({}), project.build_params());
    assert_eq!(
        result,
        json!({
            "output_file": project.path("work/app-1.2.3-h01234567_4.conda"),
            "input_globs": ["content/**", "pixi.toml", "pyproject.toml", "recipe.yaml"],
            "name": "app", "version": "1.2.3", "build": "h01234567_4", "subdir": "linux-64",
        })
    );

    let (files, info) = unpacked(&archive);
    let paths: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(paths, ["bin/tool", "lib/config.txt", "share/app/inputs.txt", "share/app/stamp.txt", "share/doc.txt"]);
    assert_eq!((files["bin/tool"].0, files["share/doc.txt"].0), (0o755, 0o644));
    assert_eq!(text(&files, "share/doc.txt"), "a document\n");
    assert_eq!(text(&files, "share/app/inputs.txt"), "build make 4 0 -\nhost zlib 1.3 h0_0 0123\n");
    assert_eq!(text(&files, "share/app/stamp.txt").trim().len(), 16);

    let host = project.path("host").to_str().unwrap().to_owned();
    assert_eq!(text(&files, "lib/config.txt"), format!("prefix={host}\n"));
    let entry = paths_entry(&info, "lib/config.txt");
    assert_eq!((&entry["file_mode"], &entry["prefix_placeholder"]), (&json!("text"), &json!(host)));
    let plain = paths_entry(&info, "share/doc.txt");
    assert!(plain.get("prefix_placeholder").is_none());
    assert_eq!((&plain["path_type"], &plain["size_in_bytes"]), (&json!("hardlink"), &json!(11)));
    // sha256sum of "a document\n"
    assert_eq!(plain["sha256"].as_str().unwrap(), "86764fb8bf93134fa0d751dcde574e408dc178f3ae7b18a5fcb9393da8fdc287");

    assert_eq!(
        info["info/index.json"],
        json!({
            "name": "app", "version": "1.2.3", "build": "h01234567_4", "build_number": 4, "subdir": "linux-64",
            "arch": "x86_64", "platform": "linux", "license": "MIT",
            "depends": ["zlib >=1.3,<2.0a0", "python 3.12.*"],
            "constrains": ["numpy <2"],
            "extra_depends": { "docs": ["sphinx"] },
        })
    );
    assert_eq!(info["info/run_exports.json"], json!({ "weak": ["app >=1.2.3,<2.0a0"] }));
    assert_eq!(info["info/about.json"], json!({ "home": "https://example.org/", "license": "MIT" }));
}

#[test]
fn files_are_chosen_by_globs() {
    let project = Project::new();
    let configuration = json!({ "files": ["content/**", "src/*.c", "!**/doc.txt"], "embed": false });
    let (files, _) = unpacked(&project.built(configuration, project.build_params()).0);
    assert_eq!(files.keys().collect::<Vec<_>>(), ["bin/tool", "share/app/stamp.txt", "src/main.c"]);
}

#[cfg(unix)]
#[test]
fn symbolic_links_stay_links() {
    let project = Project::new();
    std::os::unix::fs::symlink("tool", project.path("source/content/bin/alias")).unwrap();
    let (files, info) = unpacked(&project.built(json!({}), project.build_params()).0);
    assert_eq!(text(&files, "bin/alias"), "tool");
    assert_eq!(paths_entry(&info, "bin/alias")["path_type"], "softlink");
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let project = Project::new();
    let (first, result) = project.built(json!({}), project.build_params());
    fs::remove_file(result["output_file"].as_str().unwrap()).unwrap();
    let (second, _) = project.built(json!({}), project.build_params());
    assert!(first == second);
}

#[test]
fn a_changed_stamp_below_changes_the_package_unless_nothing_is_embedded() {
    let project = Project::new();
    for embed in [true, false] {
        let configuration = json!({ "embed": embed });
        project.write("host/share/zlib/stamp.txt", "before\n");
        let (before, _) = project.built(configuration.clone(), project.build_params());
        project.write("host/share/zlib/stamp.txt", "after\n");
        let (after, _) = project.built(configuration, project.build_params());
        assert_eq!(before != after, embed);
    }
}

#[test]
fn a_changed_file_changes_the_stamp() {
    let project = Project::new();
    let stamp = || text(&unpacked(&project.built(json!({}), project.build_params()).0).0, "share/app/stamp.txt");
    let before = stamp();
    project.write("source/content/share/doc.txt", "another document\n");
    assert_ne!(before, stamp());
}

#[test]
fn the_stamp_does_not_depend_on_where_the_prefix_is() {
    let project = Project::new();
    project.write("source/content/config.txt", "@HOST_PREFIX@\n");
    let stamp = |prefix: &str| {
        let mut params = project.build_params();
        params["hostPrefix"]["prefix"] = json!(project.path(prefix));
        text(&unpacked(&project.built(json!({}), params).0).0, "share/app/stamp.txt")
    };
    assert_eq!(stamp("host"), stamp("other-host"));
}

#[test]
fn the_format_and_the_directory_are_those_asked_for() {
    let project = Project::new();
    let mut params = project.build_params();
    params["outputDirectory"] = json!(project.path("out/deep"));
    for level in [json!("lowest"), json!("default"), json!("highest"), json!(7), Value::Null] {
        params["packageFormat"] = json!({ "archiveType": "conda", "compressionLevel": level });
        let (archive, result) = project.built(json!({}), params.clone());
        assert_eq!(result["output_file"], json!(project.path("out/deep/app-1.2.3-h01234567_4.conda")));
        assert!(unpacked(&archive).0.contains_key("bin/tool"));
    }
    params["packageFormat"] = json!({ "archiveType": "tar.bz2" });
    assert_eq!(project.session(json!({})).error("conda/build_v1", params.clone())["code"], -32000);
    params["packageFormat"] = json!({ "compressionLevel": "extreme" });
    assert_eq!(project.session(json!({})).error("conda/build_v1", params)["code"], -32602);
}

#[test]
fn environment_variables_are_reported_and_packaged() {
    let project = Project::new();
    let mut client = Client::spawn(&[], &[("BACKEND_HAS", "value")]);
    let configuration = json!({
        "requires_env": ["BACKEND_HAS", "BACKEND_LACKS"],
        "env_into_package": ["BACKEND_HAS", "BACKEND_LACKS"],
        "stderr": ["one", "two"],
    });
    client.result("initialize", project.initialize_params(configuration));
    let result = client.result("conda/build_v1", project.build_params());
    let (files, _) = unpacked(&fs::read(result["output_file"].as_str().unwrap()).unwrap());
    assert_eq!(text(&files, "share/app/env.txt"), "BACKEND_HAS=value\nBACKEND_LACKS is not set\n");
    assert_eq!(
        client.end().1,
        "one\ntwo\nenvironment variable BACKEND_HAS is set\nenvironment variable BACKEND_LACKS is not set\n"
    );
}

#[test]
fn every_call_is_in_both_logs() {
    let project = Project::new();
    let elsewhere = project.path("elsewhere.log");
    let mut client = Client::spawn(&[], &[("DOGE_TEST_BACKEND_LOG", elsewhere.to_str().unwrap())]);
    client.result("negotiateCapabilities", json!({ "capabilities": {} }));
    client.result("initialize", project.initialize_params(json!({ "log": "calls.log" })));
    client.result("conda/outputs", project.outputs_params());
    client.result("conda/build_v1", project.build_params());
    let expected =
        format!("start {}\nnegotiate\ninitialize app\noutputs app\nbuild app mkl=2 python=3.12\n", client.child.id());
    client.end();
    assert_eq!(project.read("source/calls.log"), expected);
    assert_eq!(project.read("elsewhere.log"), expected);
}

#[test]
fn bad_input_is_answered_with_an_error() {
    let project = Project::new();
    let mut client = Client::spawn(&[], &[]);
    let mut code = |line: &str| {
        client.send_line(line);
        client.receive()["error"]["code"].as_i64().unwrap()
    };
    assert_eq!(code("{"), -32700);
    assert_eq!(code("[]"), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":[],"method":"initialize"}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc":"1.0","id":1,"method":"initialize"}"#), -32600);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":"a","method":"no/such"}"#), -32601);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"initialize"}"#), -32602);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":[1]}"#), -32602);
    assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"conda/outputs","params":{}}"#), -32600);
    let mut bad = |change: fn(&mut Value)| {
        let mut params = project.initialize_params(json!({}));
        change(&mut params);
        client.error("initialize", params)["code"].as_i64().unwrap()
    };
    assert_eq!(bad(|params| params["configuration"]["unknown"] = json!(1)), -32602);
    assert_eq!(bad(|params| params["configuration"]["files"] = json!("content")), -32602);
    assert_eq!(bad(|params| params["configuration"]["fail"] = json!("sometimes")), -32602);
    assert_eq!(bad(|params| params["configuration"] = json!({ "fail": "no_file", "fail_in": "outputs" })), -32602);
    assert_eq!(bad(|params| params["projectModel"]["version"] = json!(1)), -32602);
    assert_eq!(bad(|params| params["projectModel"]["targets"] = json!([])), -32602);
    // None of them began a session. A notification has no answer.
    client.result("initialize", project.initialize_params(json!({})));
    client.send_line(r#"{"jsonrpc":"2.0","method":"conda/outputs"}"#);
    let mut bad = |change: fn(&mut Value)| {
        let mut params = project.build_params();
        change(&mut params);
        client.error("conda/build_v1", params)["code"].as_i64().unwrap()
    };
    assert_eq!(bad(|params| *params = Value::Null), -32602);
    assert_eq!(bad(|params| params["output"]["name"] = json!("other")), -32602);
    assert_eq!(bad(|params| params["output"]["subdir"] = Value::Null), -32602);
    assert_eq!(bad(|params| params["runDependencies"][0]["spec"] = json!({})), -32602);
    assert_eq!(bad(|params| params["hostPrefix"]["packages"] = json!([{}])), -32602);
    assert_eq!(client.error("conda/outputs", json!({}))["code"], -32602);
    assert!(client.end().0.success());
}

#[test]
fn a_pin_on_what_is_not_built_is_an_error_of_the_backend() {
    let project = Project::new();
    let mut params = project.initialize_params(json!({}));
    params["projectModel"]["targets"]["defaultTarget"]["runExports"]["weak"] =
        json!({ "stranger": { "pinSubpackage": { "exact": true } } });
    let mut client = Client::spawn(&[], &[]);
    client.result("initialize", params);
    let error = client.error("conda/outputs", project.outputs_params());
    assert_eq!((&error["code"], &error["data"]["code"]), (&json!(-32000), &json!("doge_test_backend::pin")));
}

#[test]
fn fail_error_has_all_that_a_report_can_show() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "error" }));
    let error = client.error("conda/outputs", project.outputs_params());
    assert_eq!(error["code"], -32000);
    let data = &error["data"];
    let span = &data["labels"][0]["span"];
    let manifest = project.read("source/pixi.toml");
    let start = span["offset"].as_u64().unwrap() as usize;
    let length = span["length"].as_u64().unwrap() as usize;
    assert_eq!(&manifest[start..start + length], "fail");
    assert_eq!(data["filename"], "pixi.toml");
    assert_eq!(data["severity"], "error");
    assert!(data["help"].is_string() && data["message"].is_string());
    // It goes on failing, and nothing else does.
    client.error("conda/outputs", project.outputs_params());
    client.result("conda/build_v1", project.build_params());
}

#[test]
fn a_failure_may_be_in_any_call() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "error", "fail_in": "build", "error_code": -1 }));
    client.result("conda/outputs", project.outputs_params());
    assert_eq!(client.error("conda/build_v1", project.build_params())["code"], -1);

    let mut client = Client::spawn(&["fail=error", "fail_in=negotiate"], &[]);
    client.error("negotiateCapabilities", json!({ "capabilities": {} }));

    let mut client = Client::spawn(&[], &[]);
    let failing = json!({ "fail": "error", "fail_in": "initialize" });
    client.error("initialize", project.initialize_params(failing));
}

#[test]
fn a_failure_may_last_only_as_long_as_a_file_is_there() {
    let project = Project::new();
    project.write("source/broken", "");
    let mut client = project.session(json!({ "fail": "error", "fail_while": "broken" }));
    client.error("conda/outputs", project.outputs_params());
    fs::remove_file(project.path("source/broken")).unwrap();
    client.result("conda/outputs", project.outputs_params());
}

#[test]
fn what_the_client_sends_goes_before_the_command_line_and_that_before_the_environment() {
    let project = Project::new();
    let environment = [("DOGE_TEST_BACKEND_CONFIG", r#"{"noarch": true, "globs": ["e"], "files": ["e"]}"#)];
    let mut client = Client::spawn(&["globs=[\"c\"]", "files=[\"c\"]"], &environment);
    client.result("initialize", project.initialize_params(json!({ "files": ["src/**"] })));
    let result = client.result("conda/outputs", project.outputs_params());
    assert_eq!(result["outputs"][0]["metadata"]["subdir"], "noarch");
    assert_eq!(result["inputGlobs"], json!(["c"]));
    let result = client.result("conda/build_v1", project.build_params());
    let (files, _) = unpacked(&fs::read(result["output_file"].as_str().unwrap()).unwrap());
    assert!(files.contains_key("src/main.c") && !files.contains_key("bin/tool"));
}

#[test]
fn fail_unknown_error_code_has_no_data_to_speak_of() {
    let project = Project::new();
    let error =
        project.session(json!({ "fail": "unknown_error_code" })).error("conda/outputs", project.outputs_params());
    assert_eq!(error["code"], -32050);
    assert!(error["data"].is_string());
}

#[test]
fn fail_hang_does_not_answer() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "hang", "log": "calls.log" }));
    client.send("conda/outputs", project.outputs_params());
    let deadline = Instant::now() + Duration::from_secs(60);
    while !project.read("source/calls.log").ends_with("outputs app\n") {
        assert!(Instant::now() < deadline, "the call did not arrive");
        std::thread::yield_now();
    }
    // It does not even notice that the client has gone.
    drop(client.stdin.take());
    assert!(client.child.try_wait().unwrap().is_none());
    client.child.kill().unwrap();
    assert_eq!(client.receive_line(), "");
}

#[test]
fn fail_flood_floods_and_works() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "flood" }));
    client.result("conda/outputs", project.outputs_params());
    assert!(client.end().1.len() >= 8 << 20);
}

#[test]
fn fail_flood_stdout_is_a_line_without_an_end() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "flood_stdout", "flood_bytes": 3_000_000 }));
    client.send("conda/outputs", project.outputs_params());
    let line = client.receive_line();
    assert!(line.len() > 3_000_000 && !line.ends_with('\n'));
    assert!(client.end().0.success());
}

#[test]
fn fail_flood_stdout_ends_when_nobody_reads() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "flood_stdout" }));
    client.send("conda/outputs", project.outputs_params());
    let mut block = vec![0; 1 << 20];
    client.stdout.read_exact(&mut block).unwrap();
    let Client { child, stdout, .. } = &mut client;
    // Closes the pipe.
    *stdout = BufReader::new(
        Command::new(env!("CARGO_BIN_EXE_doge-test-backend"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
            .stdout
            .take()
            .unwrap(),
    );
    assert!(child.wait().unwrap().success());
}

#[test]
fn fail_rubbish_is_no_json() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "rubbish", "fail_in": "build" }));
    client.send("conda/build_v1", project.build_params());
    let line = client.receive_line();
    assert!(line.ends_with('\n') && serde_json::from_str::<Value>(&line).is_err());
}

#[test]
fn fail_die_leaves_last_words() {
    let project = Project::new();
    let mut client = project.session(json!({ "fail": "die", "stderr": ["before"] }));
    client.send("conda/outputs", project.outputs_params());
    assert_eq!(client.receive_line(), "");
    let (status, stderr) = client.end();
    assert_eq!(status.code(), Some(3));
    assert_eq!(stderr.lines().last(), Some("these are the last words"));
    assert!(stderr.contains("before\ntold to die in outputs\n"), "{stderr}");
}

#[test]
fn fail_wrong_shape_is_json_of_another_kind() {
    let project = Project::new();
    let result = project.session(json!({ "fail": "wrong_shape" })).result("conda/outputs", project.outputs_params());
    assert!(result.is_array());
}

#[test]
fn fail_not_a_capability_offers_no_outputs() {
    let mut client = Client::spawn(&["fail=not_a_capability"], &[]);
    let result = client.result("negotiateCapabilities", json!({ "capabilities": {} }));
    assert_eq!(result["capabilities"]["providesCondaOutputs"], false);
}

#[test]
fn fail_wrong_package_builds_another_one() {
    let project = Project::new();
    let (archive, result) = project.built(json!({ "fail": "wrong_package" }), project.build_params());
    assert_eq!((&result["name"], &result["version"]), (&json!("app-other"), &json!("99")));
    assert_eq!(unpacked(&archive).1["info/index.json"]["name"], "app-other");
}

#[test]
fn fail_no_file_names_what_is_not_there() {
    let project = Project::new();
    project.built(json!({}), project.build_params());
    let result = project.session(json!({ "fail": "no_file" })).result("conda/build_v1", project.build_params());
    assert!(!Path::new(result["output_file"].as_str().unwrap()).exists());
}

#[test]
fn fail_damaged_file_cannot_be_read() {
    let project = Project::new();
    let (archive, _) = project.built(json!({ "fail": "damaged_file" }), project.build_params());
    assert!(!archive.is_empty());
    assert!(zip::ZipArchive::new(Cursor::new(archive)).is_err());
}

#[test]
fn fail_touch_own_globs_changes_its_input_each_time() {
    let project = Project::new();
    let configuration = json!({ "fail": "touch_own_globs" });
    let (archive, _) = project.built(configuration.clone(), project.build_params());
    assert_eq!(project.read("source/content/touched.txt"), "1\n");
    assert!(!unpacked(&archive).0.contains_key("touched.txt"));
    project.built(configuration, project.build_params());
    assert_eq!(project.read("source/content/touched.txt"), "2\n");
}

#[test]
fn slow_takes_its_time_and_works() {
    let project = Project::new();
    let mut client = project.session(json!({ "slow": 300, "slow_in": "build" }));
    client.result("conda/outputs", project.outputs_params());
    let start = Instant::now();
    client.result("conda/build_v1", project.build_params());
    assert!(start.elapsed() >= Duration::from_millis(300));
}

#[test]
fn an_argument_that_is_no_setting_is_refused_at_once() {
    let (status, stderr) = Client::spawn(&["--help"], &[]).end();
    assert_eq!(status.code(), Some(2));
    assert!(stderr.contains("'--help' is not KEY=VALUE"), "{stderr}");
}
