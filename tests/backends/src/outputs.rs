//! `conda/outputs`: what can be built, for which variants, from what.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::configuration::{Configuration, Noarch};
use crate::dependencies::{Dependencies, Subpackages, Variant};
use crate::json::Reader;
use crate::project::{Output, Project};
use crate::protocol::RpcError;

pub(crate) fn outputs(
    project: &Project,
    configuration: &Configuration,
    params: &Reader<'_>,
) -> Result<Value, RpcError> {
    let host_platform = params.required_string("hostPlatform")?;
    params.required_string("buildPlatform")?;
    params.required_string("workDirectory")?;
    let variants = variant_configuration(params)?;
    let mut outputs = Vec::new();
    for output in project.outputs() {
        for variant in combinations(output, &variants) {
            let subpackages = project.subpackages(&variant, &variants);
            outputs.push(described(project, configuration, output, &variant, &subpackages, host_platform)?);
        }
    }
    let mut result = json!({ "outputs": outputs, "inputGlobs": configuration.globs });
    if let Some(sets) = &configuration.glob_sets {
        result["inputGlobSets"] = sets.clone().into();
    }
    Ok(result)
}

/// The values of each key. A key without values is none.
fn variant_configuration(params: &Reader<'_>) -> Result<BTreeMap<String, Vec<Value>>, RpcError> {
    let reader = params.reader("variantConfiguration")?;
    let mut variants = BTreeMap::new();
    for (key, _) in reader.entries() {
        let values = reader.list(key)?.cloned().unwrap_or_default();
        if values.iter().any(|value| !(value.is_string() || value.is_i64() || value.is_boolean())) {
            let message = format!("{} has to be a list of strings, integers and booleans", reader.place_of(key));
            return Err(RpcError::invalid_params(message));
        }
        if !values.is_empty() {
            variants.insert(key.clone(), values);
        }
    }
    Ok(variants)
}

/// All variants of an output, in the order of the keys and then of the values.
fn combinations(output: &Output, variants: &BTreeMap<String, Vec<Value>>) -> Vec<Variant> {
    let mut all = vec![Variant::new()];
    for key in output.target.variant_keys(variants) {
        let values = variants.get(&key).map(Vec::as_slice).unwrap_or_default();
        let with = |variant: &Variant, value: &Value| {
            let mut variant = variant.clone();
            variant.insert(key.clone(), value.clone());
            variant
        };
        all = all.iter().flat_map(|variant| values.iter().map(move |value| with(variant, value))).collect();
    }
    all
}

fn described(
    project: &Project,
    configuration: &Configuration,
    output: &Output,
    variant: &Variant,
    subpackages: &Subpackages,
    host_platform: &str,
) -> Result<Value, RpcError> {
    let target = &output.target;
    let named = |dependencies: &Dependencies| dependencies.named(variant, subpackages).map(Value::from);
    let environment = |dependencies: &Dependencies| {
        if dependencies.is_empty() {
            return Ok(Value::Null);
        }
        Ok(json!({ "depends": named(dependencies)?, "constraints": [] }))
    };
    let mut extra = Map::new();
    for (group, dependencies) in &target.extra {
        extra.insert(group.clone(), named(dependencies)?);
    }
    let mut run_exports = Map::new();
    for (kind, dependencies) in &target.run_exports {
        run_exports.insert((*kind).to_owned(), named(dependencies)?);
    }
    Ok(json!({
        "metadata": {
            "name": output.name,
            "version": output.version,
            "build": project.build_string(output, variant),
            "buildNumber": output.build_number,
            "subdir": if output.noarch == Noarch::No { host_platform } else { "noarch" },
            "license": project.license,
            "licenseFamily": null,
            "flags": project.flags,
            "trackFeatures": [],
            "noarch": output.noarch.to_json(),
            "purls": null,
            "pythonSitePackagesPath": null,
            "variant": variant,
        },
        "buildDependencies": environment(&target.build)?,
        "hostDependencies": environment(&target.host)?,
        "runDependencies": {
            "depends": named(&target.run)?,
            "constraints": named(&target.run_constraints)?,
        },
        "extraDependencies": extra,
        "ignoreRunExports": {
            "byName": configuration.ignored_names,
            "fromPackage": configuration.ignored_packages,
        },
        "runExports": run_exports,
        "inputGlobs": null,
        "inputGlobSets": null,
    }))
}
