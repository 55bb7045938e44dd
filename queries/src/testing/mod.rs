//! Tools for tests, benches and examples: tiny conda packages, local channels, a counting HTTP server on the loopback
//! interface.
//!
//! Everything here is deterministic: the same calls give the same bytes, so that a channel made by an example is the
//! same channel on every machine. Nothing here is used by the crate itself.

pub mod backend;
pub mod channel;
pub mod installer;
pub mod reporter;
pub mod server;

pub use backend::Passthrough;
pub use channel::{ArchiveKind, ChannelBuilder, PLACEHOLDER, PackageBuilder};
pub use installer::install_with_rattler;
pub use reporter::EventReporter;
pub use server::{Misbehaviour, Request, TestServer};
