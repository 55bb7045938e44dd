//! The ledger: what a prefix looked like when we left it.

use std::collections::BTreeMap;
use std::path::Path;

use doge::Fingerprint;
use serde::{Deserialize, Serialize};

use crate::prefix::files::{LEDGER, meta, replace};
use crate::prefix::state::PackageIdentity;

/// The version of its layout; another one is as good as none.
const VERSION: u32 = 1;

/// Which records were there, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ledger {
    version: u32,
    /// The canonical absolute path: packages have it written into their files.
    pub(crate) prefix: String,
    /// The records, by file name.
    pub(crate) records: BTreeMap<String, LedgerEntry>,
}

/// A record as we left it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LedgerEntry {
    /// The fingerprint of its content.
    pub(crate) content: Fingerprint,
    /// What it says, so that it need not be parsed again while its content is the same.
    pub(crate) package: PackageIdentity,
}

impl Ledger {
    pub(crate) fn new(prefix: String, records: BTreeMap<String, LedgerEntry>) -> Self {
        Self { version: VERSION, prefix, records }
    }

    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|ledger: &Ledger| ledger.version == VERSION)
    }

    pub(crate) fn write(&self, prefix: &Path) -> std::io::Result<()> {
        let text = serde_json::to_vec_pretty(self)?;
        replace(&meta(prefix, LEDGER), &text)
    }
}

/// Whether a directory is a prefix that Doge left behind, in whatever state it is now.
pub fn was_left_by_us(prefix: &Path) -> bool {
    meta(prefix, LEDGER).is_file()
}
