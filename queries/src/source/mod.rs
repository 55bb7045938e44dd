//! Packages that are built from sources: where these are, and the records of what they will become.
//!
//! A place as somebody says it is a [`SourceLocation`]; pinned it is a [`PinnedSource`], which means the same tomorrow
//! unless it is a path. What lies elsewhere is brought into the cache by actions, whose results hold though the files are
//! gone: who needs them has them brought again.

pub mod archive;
mod checkout;
pub mod git;
mod inventory;
mod location;
mod logins;
mod manifests;
mod pin;
mod record;
mod written;

pub use checkout::{
    ArchiveContentSpec, ArchiveStamp, Checkout, CheckoutError, CheckoutGitSpec, CheckoutUrlSpec, GitReferenceSpec,
    HashFrom, Sources,
};
pub(crate) use checkout::{SourcePlace, Use, changed, is_whole, path_place, place_of, split_manifest, use_checkouts};
pub use git::Reference as GitReference;
pub use location::{PinnedSource, SourceLocation, normalized};
pub(crate) use location::{is_absolute, leads_out};
pub use logins::Logins;
pub(crate) use manifests::read as read_manifests;
pub use manifests::{Manifests, ManifestsError, ManifestsSpec, ManifestsStamp};
pub use pin::PinError;
pub(crate) use pin::{checkout_of, pin};
pub use record::{LockedMetadata, LockedPackages, LockedSource, PartialMetadata, SourceRecord};
pub(crate) use record::{Locking, written};
pub use written::Written;
