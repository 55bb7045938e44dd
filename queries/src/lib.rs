//! The conda work of Doge: what a workspace asks for and the queries that answer it.

#![forbid(unsafe_code)]

pub mod conda;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod workspace;
