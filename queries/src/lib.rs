//! The conda work of Doge: what a workspace asks for and the queries that answer it.

#![forbid(unsafe_code)]

pub mod workspace;
