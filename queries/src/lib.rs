//! The conda work of Doge: what a workspace asks for and the queries that answer it.

#![forbid(unsafe_code)]

pub mod backend;
pub mod build;
mod cached_package;
pub mod collect;
pub mod conda;
pub mod config;
pub mod database;
pub mod environment;
mod epoch;
mod file_stamp;
pub mod files;
pub mod logs;
pub mod package;
pub mod prefix;
mod problem;
pub mod records;
mod redact;
pub mod reporters;
pub mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod told;
mod waiting;
mod whole;
pub mod workspace;

pub use doge;

pub use database::{CacheDirs, DatabaseOptions, history};
pub use problem::Problem;
pub use whole::write_whole;
