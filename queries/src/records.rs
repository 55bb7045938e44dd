//! Records of packages, as values that specs name.

use std::fmt;

use doge::Intern;
use rattler_conda_types::RepoDataRecord;
use serde::{Deserialize, Serialize};

/// Records of packages, sorted by name.
///
/// A spec never carries records; it carries their name, an [`doge::Interned`] of this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Records(Vec<RepoDataRecord>);

impl Records {
    /// These records, sorted: the order in which they were found means nothing.
    pub fn new(mut records: Vec<RepoDataRecord>) -> Self {
        let key =
            |record: &RepoDataRecord| (record.package_record.name.as_normalized().to_owned(), record.url.to_string());
        records.sort_by_cached_key(key);
        Self(records)
    }

    /// The records.
    pub fn as_slice(&self) -> &[RepoDataRecord] {
        &self.0
    }
}

impl Intern for Records {
    const NAME: &'static str = "records";
}

impl fmt::Display for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} records", self.0.len())
    }
}
