//! Integration tests of the conda work.

mod builder;
mod memory;
mod reporters;
