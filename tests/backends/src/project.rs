//! What a session is about: the project model of `initialize`, and the outputs that come of it.
//!
//! Only the default target of the model is looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::configuration::{Configuration, Noarch, OutputEntry};
use crate::dependencies::{Dependencies, Subpackages, Variant};
use crate::inputs::Fingerprint;
use crate::json::Reader;
use crate::protocol::RpcError;

/// Where the project lies.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) manifest: PathBuf,
    pub(crate) source: PathBuf,
}

impl Place {
    pub(crate) fn read(params: &Reader<'_>) -> Result<Self, RpcError> {
        let manifest = PathBuf::from(params.required_string("manifestPath")?);
        let source = match params.string("sourceDirectory")? {
            Some(source) => source.into(),
            None => manifest.parent().unwrap_or(Path::new("")).to_owned(),
        };
        Ok(Self { manifest, source })
    }
}

#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) license: Option<String>,
    pub(crate) flags: Vec<String>,
    /// The fields of `about.json`.
    pub(crate) about: Map<String, Value>,
    /// What was asked for and is ignored.
    pub(crate) ignored: Vec<String>,
    build_string_prefix: String,
    outputs: Vec<Output>,
}

/// One of the packages that can be built.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) build_number: u64,
    pub(crate) noarch: Noarch,
    pub(crate) files: Vec<String>,
    pub(crate) embed: bool,
    pub(crate) target: Target,
}

/// The dependencies of all kinds.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) build: Dependencies,
    pub(crate) host: Dependencies,
    pub(crate) run: Dependencies,
    pub(crate) run_constraints: Dependencies,
    /// Extra dependencies by group.
    pub(crate) extra: Vec<(String, Dependencies)>,
    /// Run exports by their name in a result.
    pub(crate) run_exports: Vec<(&'static str, Dependencies)>,
}

impl Project {
    pub(crate) fn read(place: Place, params: &Reader<'_>, configuration: &Configuration) -> Result<Self, RpcError> {
        let model = params.reader("projectModel")?;
        let targets = model.reader("targets")?;
        let base = Output {
            name: project_name(params, configuration, &place)?,
            version: model.string("version")?.unwrap_or("0.0.0").to_owned(),
            build_number: model.natural("buildNumber")?.unwrap_or(0),
            noarch: configuration.noarch,
            files: configuration.files.clone(),
            embed: configuration.embed,
            target: Target::read(&targets.reader("defaultTarget")?)?,
        };
        let outputs = match configuration.outputs.as_slice() {
            [] => vec![base.clone()],
            entries => entries.iter().map(|entry| base.with(entry)).collect(),
        };
        let conditions = targets.reader("conditional")?;
        let selectors = params.reader("targetConfiguration")?;
        let ignored = conditions.entries().map(|(condition, _)| format!("conditional target '{condition}'"));
        let ignored = ignored.chain(selectors.entries().map(|(selector, _)| format!("configuration for '{selector}'")));
        Ok(Self {
            name: base.name,
            license: model.string("license")?.map(str::to_owned),
            flags: model.strings("buildFlags")?.unwrap_or_default(),
            about: about(&model)?,
            ignored: ignored.collect(),
            build_string_prefix: model.string("buildStringPrefix")?.unwrap_or_default().to_owned(),
            outputs,
            place,
        })
    }

    pub(crate) fn outputs(&self) -> &[Output] {
        &self.outputs
    }

    /// The build string of an output for a variant. The same for the same variant, whatever else is configured.
    pub(crate) fn build_string(&self, output: &Output, variant: &Variant) -> String {
        let prefix = &self.build_string_prefix;
        let number = output.build_number;
        if variant.is_empty() {
            return format!("{prefix}{number}");
        }
        let mut hash = Fingerprint::default();
        for (key, value) in variant {
            hash.field(key.as_bytes());
            hash.field(value.to_string().as_bytes());
        }
        format!("{prefix}h{}_{number}", &hash.hex()[..8])
    }

    /// What all outputs are when one of them is built for this variant.
    pub(crate) fn subpackages(&self, variant: &Variant, variants: &BTreeMap<String, Vec<Value>>) -> Subpackages {
        let of_output = |output: &Output| {
            let keys = output.target.variant_keys(variants).into_iter();
            let value = |key: &String| variant.get(key).or_else(|| variants.get(key)?.first()).cloned();
            let own: Variant = keys.filter_map(|key| value(&key).map(|value| (key, value))).collect();
            (output.name.clone(), (output.version.clone(), self.build_string(output, &own)))
        };
        self.outputs.iter().map(of_output).collect()
    }
}

impl Output {
    fn with(&self, entry: &OutputEntry) -> Self {
        let mut output = self.clone();
        output.name.clone_from(&entry.name);
        output.version = entry.version.clone().unwrap_or(output.version);
        output.build_number = entry.build_number.unwrap_or(output.build_number);
        output.noarch = entry.noarch.unwrap_or(output.noarch);
        output.files = entry.files.clone().unwrap_or(output.files);
        output.embed = entry.embed.unwrap_or(output.embed);
        output.target.build = entry.build_dependencies.clone().unwrap_or(output.target.build);
        output.target.host = entry.host_dependencies.clone().unwrap_or(output.target.host);
        output.target.run = entry.run_dependencies.clone().unwrap_or(output.target.run);
        output
    }
}

impl Target {
    fn read(target: &Reader<'_>) -> Result<Self, RpcError> {
        let of = |key| Dependencies::read(&target.reader(key)?);
        let groups = target.reader("extraDependencies")?;
        let group = |(name, _): (&String, &Value)| Ok((name.clone(), Dependencies::read(&groups.reader(name)?)?));
        let exports = target.reader("runExports")?;
        let export = |(result, model)| Ok((result, Dependencies::read(&exports.reader(model)?)?));
        Ok(Self {
            build: of("buildDependencies")?,
            host: of("hostDependencies")?,
            run: of("runDependencies")?,
            run_constraints: of("runConstraints")?,
            extra: groups.entries().map(group).collect::<Result<_, RpcError>>()?,
            run_exports: [
                ("weak", "weak"),
                ("strong", "strong"),
                ("noarch", "noarch"),
                ("weakConstrains", "weakConstraints"),
                ("strongConstrains", "strongConstraints"),
            ]
            .into_iter()
            .map(export)
            .collect::<Result<_, RpcError>>()?,
        })
    }

    pub(crate) fn variant_keys(&self, variants: &BTreeMap<String, Vec<Value>>) -> BTreeSet<String> {
        let mut keys = self.build.variant_keys(variants);
        keys.extend(self.host.variant_keys(variants));
        keys
    }
}

/// A model may leave the name to the backend.
pub(crate) fn project_name(
    params: &Reader<'_>,
    configuration: &Configuration,
    place: &Place,
) -> Result<String, RpcError> {
    if let Some(name) = params.reader("projectModel")?.string("name")? {
        return Ok(name.to_owned());
    }
    if let Some(output) = configuration.outputs.first() {
        return Ok(output.name.clone());
    }
    let name = place.source.file_name().map(|name| name.to_string_lossy().to_lowercase());
    name.ok_or_else(|| RpcError::invalid_params("nothing says the name of the project"))
}

fn about(model: &Reader<'_>) -> Result<Map<String, Value>, RpcError> {
    let mut about = Map::new();
    for (field, key) in [
        ("description", "description"),
        ("dev_url", "repository"),
        ("doc_url", "documentation"),
        ("home", "homepage"),
        ("license", "license"),
    ] {
        if let Some(text) = model.string(key)? {
            about.insert(field.to_owned(), text.into());
        }
    }
    Ok(about)
}
