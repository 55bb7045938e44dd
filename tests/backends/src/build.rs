//! `conda/build_v1`: packages the files of the project.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::archive::{self, Content, Package, Packaged};
use crate::configuration::{Configuration, Noarch};
use crate::dependencies::Variant;
use crate::failing::{self, Kind, Step};
use crate::files;
use crate::inputs;
use crate::json::Reader;
use crate::match_spec;
use crate::project::{Output, Project};
use crate::protocol::RpcError;

/// What stands for the host prefix in a file.
const HOST_PREFIX: &[u8] = b"@HOST_PREFIX@";

/// What is asked for.
struct Wanted {
    name: String,
    version: String,
    build: String,
    subdir: String,
}

impl Wanted {
    fn read(asked: &Reader<'_>, project: &Project, output: &Output) -> Result<Self, RpcError> {
        let variant = asked.reader("variant")?.entries().map(|(key, value)| (key.clone(), value.clone())).collect();
        let build = || project.build_string(output, &variant);
        Ok(Self {
            name: output.name.clone(),
            version: asked.string("version")?.unwrap_or(&output.version).to_owned(),
            build: asked.string("build")?.map_or_else(build, str::to_owned),
            subdir: asked.required_string("subdir")?.to_owned(),
        })
    }
}

pub(crate) fn build(project: &Project, configuration: &Configuration, params: &Reader<'_>) -> Result<Value, RpcError> {
    let asked = params.reader("output")?;
    let name = asked.required_string("name")?;
    let unknown = || RpcError::invalid_params(format!("there is no output '{name}'"));
    let output = project.outputs().iter().find(|output| output.name == name).ok_or_else(unknown)?;
    let mut wanted = Wanted::read(&asked, project, output)?;
    let told_to = |kind| {
        let failure = configuration.failure.as_ref();
        failure.is_some_and(|failure| failure.is(kind, Step::Build, Some(&project.place)))
    };
    if told_to(Kind::WrongPackage) {
        wanted.name.push_str("-other");
        wanted.version = "99".to_owned();
    }
    let level = archive::compression_level(params)?;
    let directory = match params.string("outputDirectory")? {
        Some(directory) => directory,
        None => params.required_string("workDirectory")?,
    };
    for name in &configuration.requires_env {
        let state = if std::env::var_os(name).is_some() { "is set" } else { "is not set" };
        failing::say(&format!("environment variable {name} {state}"));
    }

    let package = Package {
        index: index(project, output, &wanted, params)?,
        about: Value::Object(project.about.clone()),
        run_exports: run_exports(params)?,
        files: packaged_files(project, configuration, output, &wanted, params)?,
    };
    if told_to(Kind::TouchOwnGlobs) {
        touch(&project.place.source.join(&configuration.touch), configuration.touch_with.as_deref())?;
    }
    if let Some(path) = &configuration.remove {
        let path = project.place.source.join(path);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot("remove", &path, &error)),
            _ => {}
        }
    }
    let stem = format!("{}-{}-{}", wanted.name, wanted.version, wanted.build);
    let mut bytes = archive::pack(&package, &stem, level).map_err(|error| cannot("write", Path::new(&stem), &error))?;
    if told_to(Kind::DamagedFile) {
        bytes.truncate(bytes.len() / 2);
    }
    let file = PathBuf::from(directory).join(format!("{stem}.conda"));
    if told_to(Kind::NoFile) {
        // There may be one of an earlier build.
        match fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(cannot("remove", &file, &error)),
            _ => {}
        }
    } else {
        fs::create_dir_all(directory).map_err(|error| cannot("make", Path::new(directory), &error))?;
        fs::write(&file, bytes).map_err(|error| cannot("write", &file, &error))?;
    }

    std::thread::sleep(Duration::from_millis(configuration.slow_after.unwrap_or(0)));
    let mut result = json!({
        "output_file": file.to_string_lossy(),
        "input_globs": configuration.globs,
        "name": wanted.name,
        "version": wanted.version,
        "build": wanted.build,
        "subdir": wanted.subdir,
    });
    if let Some(sets) = &configuration.glob_sets {
        result["input_glob_sets"] = sets.clone().into();
    }
    Ok(result)
}

/// The variant of a build request as the log has it.
pub(crate) fn logged_variant(params: &Reader<'_>) -> Result<String, RpcError> {
    let variant: Variant = params
        .reader("output")?
        .reader("variant")?
        .entries()
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let word = |(key, value): (&String, &Value)| match value {
        Value::String(text) => format!(" {key}={text}"),
        other => format!(" {key}={other}"),
    };
    Ok(variant.iter().map(word).collect())
}

fn index(project: &Project, output: &Output, wanted: &Wanted, params: &Reader<'_>) -> Result<Value, RpcError> {
    let noarch = match (wanted.subdir.as_str(), output.noarch) {
        ("noarch", Noarch::No) => Noarch::Generic,
        ("noarch", noarch) => noarch,
        _ => Noarch::No,
    };
    let mut index = json!({
        "build": wanted.build,
        "build_number": output.build_number,
        "constrains": match_spec::of_dependencies(params, "runConstraints")?,
        "depends": match_spec::of_dependencies(params, "runDependencies")?,
        "name": wanted.name,
        "subdir": wanted.subdir,
        "version": wanted.version,
    });
    if noarch != Noarch::No {
        index["noarch"] = noarch.to_json();
    } else if let Some((platform, arch)) = wanted.subdir.split_once('-') {
        let arch = match arch {
            "64" => "x86_64",
            "32" => "x86",
            other => other,
        };
        index["arch"] = arch.into();
        index["platform"] = platform.into();
    }
    if let Some(license) = &project.license {
        index["license"] = license.as_str().into();
    }
    if !project.flags.is_empty() {
        index["flags"] = project.flags.clone().into();
    }
    let groups = params.reader("extraDependencies")?;
    let mut extra = Map::new();
    for (group, _) in groups.entries() {
        extra.insert(group.clone(), match_spec::of_dependencies(&groups, group)?.into());
    }
    if !extra.is_empty() {
        index["extra_depends"] = extra.into();
    }
    Ok(index)
}

/// The run exports as the package has them, if there are any.
fn run_exports(params: &Reader<'_>) -> Result<Option<Value>, RpcError> {
    let asked = params.reader("runExports")?;
    let mut exports = Map::new();
    for (field, key) in [
        ("weak", "weak"),
        ("strong", "strong"),
        ("noarch", "noarch"),
        ("weak_constrains", "weakConstrains"),
        ("strong_constrains", "strongConstrains"),
    ] {
        let specs = match_spec::of_dependencies(&asked, key)?;
        if !specs.is_empty() {
            exports.insert(field.to_owned(), specs.into());
        }
    }
    Ok((!exports.is_empty()).then_some(Value::Object(exports)))
}

fn packaged_files(
    project: &Project,
    configuration: &Configuration,
    output: &Output,
    wanted: &Wanted,
    params: &Reader<'_>,
) -> Result<BTreeMap<String, Packaged>, RpcError> {
    let mut packaged = files::collect(&project.place.source, &output.files)?;
    let own = |file: &str| format!("share/{}/{file}", wanted.name);
    if output.embed {
        packaged.insert(own("inputs.txt"), Packaged::text(inputs::list(params)?));
    }
    if configuration.incremental {
        packaged.insert(own("object.txt"), Packaged::text(object(params)?));
    }
    if !configuration.env_into_package.is_empty() {
        let line = |name: &String| match std::env::var_os(name) {
            Some(value) => format!("{name}={}\n", value.to_string_lossy()),
            None => format!("{name} is not set\n"),
        };
        packaged.insert(own("env.txt"), Packaged::text(configuration.env_into_package.iter().map(line).collect()));
    }
    // The prefix is somewhere else on each machine: it is put in after the stamp is made.
    packaged.insert(own("stamp.txt"), Packaged::text(format!("{}\n", inputs::stamp(&packaged))));
    if let Some(prefix) = params.reader("hostPrefix")?.string("prefix")?.filter(|prefix| !prefix.is_empty()) {
        for file in packaged.values_mut() {
            put_prefix(file, prefix);
        }
    }
    Ok(packaged)
}

/// What an earlier build in this work directory made of the prefixes, else what is made of them now.
fn object(params: &Reader<'_>) -> Result<String, RpcError> {
    let path = Path::new(params.required_string("workDirectory")?).join("object.txt");
    if let Ok(text) = fs::read_to_string(&path) {
        return Ok(text);
    }
    let text = inputs::list(params)?;
    fs::write(&path, &text).map_err(|error| cannot("write", &path, &error))?;
    Ok(text)
}

fn put_prefix(file: &mut Packaged, prefix: &str) {
    let Content::File { bytes, .. } = &mut file.content else { return };
    if find(bytes, HOST_PREFIX).is_some() {
        *bytes = replaced(bytes, HOST_PREFIX, prefix.as_bytes());
    }
    file.prefix = find(bytes, prefix.as_bytes()).map(|_| prefix.to_owned());
}

fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    bytes.windows(needle.len()).position(|window| window == needle)
}

fn replaced(mut bytes: &[u8], needle: &[u8], with: &[u8]) -> Vec<u8> {
    let mut result = Vec::new();
    while let Some(start) = find(bytes, needle) {
        result.extend_from_slice(&bytes[..start]);
        result.extend_from_slice(with);
        bytes = &bytes[start + needle.len()..];
    }
    result.extend_from_slice(bytes);
    result
}

/// Changes a file that the build may have read: to this text, or else by counting in it.
fn touch(path: &Path, text: Option<&str>) -> Result<(), RpcError> {
    let before = fs::read_to_string(path).ok().and_then(|text| text.trim().parse::<u64>().ok()).unwrap_or(0);
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory).map_err(|error| cannot("make", directory, &error))?;
    }
    let counted = format!("{}\n", before.saturating_add(1));
    fs::write(path, text.unwrap_or(&counted)).map_err(|error| cannot("write", path, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> RpcError {
    RpcError::backend("build", format!("cannot {what} {}: {error}", path.display()))
}
