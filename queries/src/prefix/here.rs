//! Installing at a place that belongs to some work: the environment of a tool, or of a build.

use std::path::Path;

use doge::{ActionContext, Effect as _, Fingerprint, Interned, Root};
use rattler_conda_types::Subdir;

use crate::prefix::difference::differences;
use crate::prefix::link::{LinkError, LinkOptions, LinkPrefixSpec, Relink};
use crate::prefix::state::{PrefixStateSpec, look_now};
use crate::records::Records;

/// Makes the prefix at `path` hold exactly these packages, which lie in the package cache. What is as wanted stays.
///
/// Nobody observes such a prefix: whoever needs it looks whether it is there and has the work done again.
pub(crate) async fn install_here(
    ctx: &ActionContext,
    path: &Path,
    records: &Interned<Records>,
    platform: Subdir,
) -> Result<(), LinkError> {
    let packages = ctx.value(records).await.ok_or(LinkError::NotAtHand { what: "the list of packages" })?;
    let state = {
        let path = path.to_owned();
        ctx.blocking(move || look_now(&path)).await?
    };
    let found = match (&state, packages.as_slice()) {
        // Where nothing is to be, there need not be a prefix.
        (None, []) => return Ok(()),
        _ => differences(&state, packages.as_slice(), platform),
    };
    if found.is_empty() {
        return Ok(());
    }
    let path = path.to_str().ok_or_else(|| LinkError::Io {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::InvalidInput, "the path is not UTF-8"),
    })?;
    let link = LinkPrefixSpec {
        prefix: PrefixStateSpec { root: Root::Absolute, path: path.to_owned() },
        seen: Fingerprint::of(&rmp_serde::to_vec_named(&state).unwrap_or_default()),
        records: records.clone(),
        platform,
        relink: Relink::Nothing,
        options: LinkOptions::default(),
        link_scripts: false,
        found: found.iter().map(ToString::to_string).collect(),
    };
    link.run(ctx).await.map(drop)
}
