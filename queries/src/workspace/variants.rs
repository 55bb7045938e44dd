//! What packages are built for: the variants of a workspace.
//!
//! A variant is a name with values, such as the versions of Python a package is built for. Environments do not depend
//! on them; the metadata of packages that are built do.

use std::collections::BTreeMap;

use rattler_lock::VariantValue;

use super::{
    error::ManifestError,
    feature::Selector,
    platform::Platform,
    table::{Entry, Table},
};
use crate::source::normalized;

/// The variants of a workspace as they are written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variants {
    /// The values for all platforms, then those of targets in the order of the text.
    tables: Vec<VariantTable>,
    /// Files with further variants.
    pub(crate) files: Vec<String>,
}

#[derive(Debug, Clone)]
struct VariantTable {
    selector: Option<Selector>,
    values: BTreeMap<String, Vec<VariantValue>>,
}

impl Variants {
    /// Reads what a `[workspace]` says of variants.
    pub(crate) fn read(table: &Table<'_, '_>) -> Result<Self, ManifestError> {
        let mut variants = Self::default();
        if let Some(values) = table.table("build-variants")? {
            variants.tables.push(VariantTable { selector: None, values: read_values(&values)? });
        }
        for entry in table.table("target")?.iter().flat_map(Table::entries) {
            let target = entry.table()?;
            if let Some(values) = target.table("build-variants")? {
                let selector = Some(Selector::read(&entry));
                variants.tables.push(VariantTable { selector, values: read_values(&values)? });
            }
            target.finish();
        }
        if let Some(files) = table.get("build-variants-files") {
            variants.files = files.strings()?.into_iter().map(|(path, _)| normalized(path)).collect();
        }
        Ok(variants)
    }

    /// The selectors of targets.
    pub(crate) fn selectors(&self) -> impl Iterator<Item = &Selector> {
        self.tables.iter().filter_map(|table| table.selector.as_ref())
    }

    /// What holds on a platform.
    pub(crate) fn on(&self, platform: &Platform) -> BTreeMap<String, Vec<VariantValue>> {
        let holds = |table: &&VariantTable| table.selector.as_ref().is_none_or(|selector| selector.matches(platform));
        self.tables.iter().filter(holds).flat_map(|table| table.values.clone()).collect()
    }
}

fn read_values(table: &Table<'_, '_>) -> Result<BTreeMap<String, Vec<VariantValue>>, ManifestError> {
    let read = |entry: &Entry<'_, '_>| {
        let values: Result<Vec<_>, _> = entry.array()?.iter().map(read_value).collect();
        Ok((entry.key.to_owned(), values?))
    };
    table.entries().iter().map(read).collect()
}

fn read_value(entry: &Entry<'_, '_>) -> Result<VariantValue, ManifestError> {
    if let Some(text) = entry.as_string() {
        return Ok(VariantValue::String(text.to_owned()));
    }
    if let Some(yes) = entry.as_bool() {
        return Ok(VariantValue::Bool(yes));
    }
    entry.integer().map(VariantValue::Int).map_err(|_| entry.wrong_type("a string, an integer or a boolean"))
}
