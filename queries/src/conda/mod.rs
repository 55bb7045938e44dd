//! Channels and solves.
//!
//! A solve must not be redone because *something* in a channel changed, nor be wrong because something changed while
//! it ran. So what a channel holds is observed ([`ChannelStateSpec`]), read once into an index of what each package
//! name stands for ([`ChannelIndexSpec`]), and narrowed to what can be reached from the requirements
//! ([`RecordClosureSpec`]). A solve ([`SolveCondaEnvironmentSpec`]) depends on that closure and on nothing else of
//! the channel; the records it reads are checked against it.
//!
//! Index files are read, never mapped into memory: whoever writes a channel in place would change what we see, or
//! kill us. The relations between channels of CEP-42 are not followed: the channels of a workspace are those it lists.

mod cached;
mod closure;
mod error;
mod index;
mod matched;
mod network;
mod place;
mod repodata;
mod shards;
mod solve;
mod source;
mod state;
mod times;
mod virtual_packages;

pub use cached::{CachedPackages, CachedPackagesError, CachedPackagesSpec};
pub use closure::{Closure, ClosureError, ClosurePart, RecordClosureSpec};
pub use error::ChannelError;
pub use index::{ChannelDetails, ChannelIndex, ChannelIndexSpec, IndexedName, ReadShardSpec, ShardSummary};
pub(crate) use matched::is_same_record;
pub use matched::{MatchLockedRecordsSpec, MatchedRecords};
pub use network::{NetworkError, NetworkOptions};
pub use place::{Placed, WorkspacePlaceSpec};
pub use solve::{Solution, SolveCondaEnvironmentSpec, SolveError};
pub(crate) use source::workspace_root;
pub use source::{Access, Channels};
pub use state::{ChannelStamp, ChannelState, ChannelStateSpec};
pub use times::{CutoffRankSpec, RecordTimesSpec};
pub use virtual_packages::{Machine, MachineError, MachineSpec};
