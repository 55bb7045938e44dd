//! The conda work of Doge: what a workspace asks for and the queries that answer it.

#![forbid(unsafe_code)]

pub mod conda;
mod epoch;
mod file_stamp;
pub mod package;
pub mod prefix;
pub mod records;
mod redact;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workspace;
