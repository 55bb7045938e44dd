//! The configuration of the backend; what the keys mean is in the documentation of the crate.

use std::path::PathBuf;

use serde_json::{Map, Value};

use crate::dependencies::Dependencies;
use crate::failing::{Failure, Step};
use crate::json::Reader;
use crate::protocol::RpcError;

const KEYS: &[&str] = &[
    "files",
    "embed",
    "incremental",
    "noarch",
    "globs",
    "glob_sets",
    "outputs",
    "ignore_run_exports",
    "log",
    "stderr",
    "requires_env",
    "env_into_package",
    "slow",
    "slow_in",
    "slow_after",
    "fail",
    "fail_in",
    "fail_while",
    "error_code",
    "flood_bytes",
    "remove",
    "touch",
    "touch_with",
];

const OUTPUT_KEYS: &[&str] = &[
    "name",
    "version",
    "build_number",
    "noarch",
    "files",
    "embed",
    "build_dependencies",
    "host_dependencies",
    "run_dependencies",
];

/// What does not depend on the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Noarch {
    /// Nothing: the package is for one platform.
    No,
    Generic,
    Python,
}

impl Noarch {
    /// The value of the field `noarch` of metadata and indexes.
    pub(crate) fn to_json(self) -> Value {
        match self {
            Noarch::No => Value::Bool(false),
            Noarch::Generic => Value::from("generic"),
            Noarch::Python => Value::from("python"),
        }
    }

    fn read(reader: &Reader<'_>) -> Result<Option<Self>, RpcError> {
        match reader.get("noarch") {
            None => Ok(None),
            Some(Value::Bool(false)) => Ok(Some(Noarch::No)),
            Some(Value::Bool(true)) => Ok(Some(Noarch::Generic)),
            Some(Value::String(kind)) if kind == "generic" => Ok(Some(Noarch::Generic)),
            Some(Value::String(kind)) if kind == "python" => Ok(Some(Noarch::Python)),
            Some(_) => Err(RpcError::invalid_params(format!(
                "{} has to be true, false, \"generic\" or \"python\"",
                reader.place_of("noarch")
            ))),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Configuration {
    pub(crate) files: Vec<String>,
    pub(crate) embed: bool,
    pub(crate) incremental: bool,
    pub(crate) noarch: Noarch,
    pub(crate) globs: Vec<String>,
    pub(crate) glob_sets: Option<Vec<Value>>,
    pub(crate) outputs: Vec<OutputEntry>,
    pub(crate) ignored_names: Vec<String>,
    pub(crate) ignored_packages: Vec<String>,
    pub(crate) log: Option<PathBuf>,
    pub(crate) stderr: Vec<String>,
    pub(crate) requires_env: Vec<String>,
    pub(crate) env_into_package: Vec<String>,
    pub(crate) slow: Option<(u64, Option<Step>)>,
    pub(crate) slow_after: Option<u64>,
    pub(crate) failure: Option<Failure>,
    pub(crate) touch: PathBuf,
    pub(crate) touch_with: Option<String>,
    pub(crate) remove: Option<PathBuf>,
}

/// One of several outputs. What is not said here is as it is for the project.
#[derive(Debug)]
pub(crate) struct OutputEntry {
    pub(crate) name: String,
    pub(crate) version: Option<String>,
    pub(crate) build_number: Option<u64>,
    pub(crate) noarch: Option<Noarch>,
    pub(crate) files: Option<Vec<String>>,
    pub(crate) embed: Option<bool>,
    pub(crate) build_dependencies: Option<Dependencies>,
    pub(crate) host_dependencies: Option<Dependencies>,
    pub(crate) run_dependencies: Option<Dependencies>,
}

impl Configuration {
    pub(crate) fn read(object: &Map<String, Value>) -> Result<Self, RpcError> {
        let reader = Reader::of(object, "configuration");
        reader.only(KEYS)?;
        let glob_sets = match reader.list("glob_sets")? {
            Some(_) => Some(reader.readers("glob_sets")?.iter().map(glob_set).collect::<Result<Vec<_>, _>>()?),
            None => None,
        };
        let default_globs: &[&str] =
            if glob_sets.is_some() { &[] } else { &["content/**", "pixi.toml", "pyproject.toml", "recipe.yaml"] };
        let ignored = reader.reader("ignore_run_exports")?;
        ignored.only(&["by_name", "from_package"])?;
        let slow_in = Step::read(&reader, "slow_in")?;
        Ok(Self {
            files: reader.strings("files")?.unwrap_or_else(|| vec!["content/**".to_owned()]),
            embed: reader.boolean("embed")?.unwrap_or(true),
            incremental: reader.boolean("incremental")?.unwrap_or(false),
            noarch: Noarch::read(&reader)?.unwrap_or(Noarch::No),
            globs: reader.strings("globs")?.unwrap_or_else(|| default_globs.iter().map(ToString::to_string).collect()),
            glob_sets,
            outputs: reader.readers("outputs")?.iter().map(OutputEntry::read).collect::<Result<_, _>>()?,
            ignored_names: ignored.strings("by_name")?.unwrap_or_default(),
            ignored_packages: ignored.strings("from_package")?.unwrap_or_default(),
            log: reader.string("log")?.map(PathBuf::from),
            stderr: reader.strings("stderr")?.unwrap_or_default(),
            requires_env: reader.strings("requires_env")?.unwrap_or_default(),
            env_into_package: reader.strings("env_into_package")?.unwrap_or_default(),
            slow: reader.natural("slow")?.map(|milliseconds| (milliseconds, slow_in)),
            slow_after: reader.natural("slow_after")?,
            failure: Failure::read(&reader)?,
            remove: reader.string("remove")?.map(Into::into),
            touch_with: reader.string("touch_with")?.map(str::to_owned),
            touch: reader.string("touch")?.unwrap_or("content/touched.txt").into(),
        })
    }
}

impl OutputEntry {
    fn read(reader: &Reader<'_>) -> Result<Self, RpcError> {
        reader.only(OUTPUT_KEYS)?;
        Ok(Self {
            name: reader.required_string("name")?.to_owned(),
            version: reader.string("version")?.map(str::to_owned),
            build_number: reader.natural("build_number")?,
            noarch: Noarch::read(reader)?,
            files: reader.strings("files")?,
            embed: reader.boolean("embed")?,
            build_dependencies: replacement(reader, "build_dependencies")?,
            host_dependencies: replacement(reader, "host_dependencies")?,
            run_dependencies: replacement(reader, "run_dependencies")?,
        })
    }
}

fn replacement(reader: &Reader<'_>, key: &str) -> Result<Option<Dependencies>, RpcError> {
    match reader.get(key) {
        Some(_) => Dependencies::read(&reader.reader(key)?).map(Some),
        None => Ok(None),
    }
}

/// A glob set as the protocol writes it.
fn glob_set(reader: &Reader<'_>) -> Result<Value, RpcError> {
    reader.only(&["patterns", "markers", "exclude_hidden", "root"])?;
    let mut set = Map::new();
    set.insert("patterns".to_owned(), reader.strings("patterns")?.unwrap_or_default().into());
    if let Some(markers) = reader.strings("markers")? {
        set.insert("markers".to_owned(), markers.into());
    }
    set.insert("excludeHidden".to_owned(), reader.boolean("exclude_hidden")?.unwrap_or(true).into());
    if let Some(root) = reader.string("root")? {
        set.insert("root".to_owned(), root.into());
    }
    Ok(Value::Object(set))
}
